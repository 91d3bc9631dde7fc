"""One hardware object for conversion, training, evaluation and search."""

import pytest
from torch import nn

import analogmed as am
from analogmed.analog import Hardware
from analogmed.analog.conversion import hardware_of
from analogmed.foundation.errors import ConfigError
from analogmed.search.settings import SearchConfig

FORMS = {
    "name": "hermes",
    "mapping": {"preset": "hermes"},
    "description": Hardware("hermes"),
    "configuration": am.create_rpu_config("hermes"),
}


@pytest.mark.parametrize("hardware", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("settings", [am.TrainConfig, am.Experiment, SearchConfig])
def test_settings_take_every_form(settings, hardware):
    assert settings(hardware=hardware).hardware == Hardware("hermes")


@pytest.mark.parametrize("hardware", FORMS.values(), ids=FORMS.keys())
def test_conversion_takes_every_form_and_keeps_the_description(hardware):
    assert hardware_of(am.convert(nn.Linear(3, 2), hardware)) == Hardware("hermes")


def test_arguments_of_a_mapping_are_those_of_a_configuration():
    given = {"preset": "pcm", "tile_size": [64, 32], "out_noise": 0.02}
    analog = am.convert(nn.Linear(100, 40), given)
    assert analog.rpu_config.mapping.max_input_size == 64
    assert analog.rpu_config.forward.out_noise == 0.02
    assert hardware_of(analog).changes == {"tile_size": (64, 32), "out_noise": 0.02}


@pytest.mark.parametrize(
    "change",
    [
        lambda config: setattr(config.forward, "out_noise", 0.5),
        lambda config: setattr(config.noise_model, "drift_scale", 0.0),
        lambda config: setattr(config, "drift_compensation", None),
    ],
)
def test_a_configuration_that_was_changed_has_no_description(change):
    config = am.create_rpu_config("pcm")
    change(config)
    assert hardware_of(am.convert(nn.Linear(3, 2), config)) is None
    with pytest.raises(ConfigError, match="no settings file can describe it"):
        am.TrainConfig(hardware=config)
