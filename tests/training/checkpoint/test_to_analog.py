"""A checkpoint gives its network on tiles, as an evaluation deploys it."""

import pytest
import torch

from analogmed.analog import Chip, calibrate, convert
from analogmed.foundation.errors import ConfigError
from analogmed.training import load_checkpoint

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def on_chip(analog):
    with torch.no_grad():
        return Chip(analog, seed=0).at("1 day")(IMAGES)


def test_a_digitally_trained_network_is_that_of_convert_and_calibrate(tiny_digital):
    checkpoint = load_checkpoint(tiny_digital)
    analog = checkpoint.to_analog("hermes", calibration=[IMAGES])
    expected = calibrate(convert(checkpoint.network, "hermes"), [IMAGES])
    assert torch.equal(on_chip(analog), on_chip(expected))


def test_without_learned_ranges_calibration_is_needed(tiny_digital):
    with pytest.raises(ConfigError, match=r"no input ranges for this hardware.*calibration="):
        load_checkpoint(tiny_digital).to_analog()


@pytest.mark.slow
def test_a_hardware_aware_network_has_its_hardware_and_its_ranges(tiny_hwa):
    checkpoint = load_checkpoint(tiny_hwa)
    analog = checkpoint.to_analog()
    known = analog.state_dict()
    assert checkpoint.input_ranges
    for name, ranges in checkpoint.input_ranges.items():
        assert torch.equal(known[f"{name}.input_range"].flatten(), ranges.flatten())
    assert on_chip(analog).isfinite().all()
    with pytest.raises(ConfigError, match="no input ranges"):
        checkpoint.to_analog({"preset": "pcm", "dac_steps": 62})
