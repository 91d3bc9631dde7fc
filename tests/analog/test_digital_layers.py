import math

import pytest
import torch
from torch import nn

from analogmed.analog import convert, coverage, create_rpu_config
from analogmed.foundation.errors import ShapeError


def test_shares_follow_from_weights_and_positions():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 2, 2), nn.Conv2d(3, 5, 1, stride=2)
    )
    report = coverage(convert(model, create_rpu_config("pcm"), digital_layers=["2"]), (1, 2, 8, 8))
    weights = [2 * 4 * 9, 4 * 3 * 4, 3 * 5]
    macs = [weights[0] * 64, weights[1] * 64, weights[2] * 64]  # 16 x 16 outputs, halved
    assert report.weight_share == pytest.approx(sum(weights[:2]) / sum(weights))
    assert report.mac_share == pytest.approx(sum(macs[:2]) / sum(macs))


def test_grouped_convolutions_count_the_weights_they_have():
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1))
    report = coverage(convert(model, create_rpu_config("pcm"), digital_layers=["1"]), (1, 8, 6, 6))
    assert report.mac_share == pytest.approx(8 * 9 / (8 * 9 + 64))


class Windows(nn.Module):
    """Four windows of four tokens, as in a Swin transformer, beside a whole-image product."""

    def __init__(self):
        super().__init__()
        self.whole, self.window = nn.Conv2d(3, 3, 1), nn.Linear(3, 3)

    def forward(self, images):
        tokens = self.whole(images).flatten(2).transpose(1, 2)  # (B, 16, 3)
        return self.window(tokens.reshape(-1, 4, 3))


def test_a_linear_layer_that_sees_windows_counts_every_window():
    analog = convert(Windows(), create_rpu_config("pcm"), digital_layers=["window"])
    assert coverage(analog, (1, 3, 4, 4)).mac_share == pytest.approx(0.5)
    assert coverage(analog, (2, 3, 4, 4)).mac_share == pytest.approx(0.5)


def test_a_layer_used_twice_counts_once_in_weights_and_twice_in_macs():
    shared, other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    model = nn.Sequential(shared, shared, other)
    report = coverage(convert(model, create_rpu_config("pcm"), digital_layers=["2"]))
    assert report.weight_share == pytest.approx(1 / 2)
    assert report.mac_share == pytest.approx(2 / 3)


def test_attention_counts_its_projections_as_digital():
    model = nn.TransformerEncoderLayer(8, 2, 32, batch_first=True)
    report = coverage(convert(model, create_rpu_config("pcm")), (1, 5, 8))
    assert report.weight_share == pytest.approx(2 * 8 * 32 / (2 * 8 * 32 + 4 * 64))
    assert list(report.digital_layers) == ["self_attn"]


def test_a_digital_model_has_no_analog_share():
    report = coverage(nn.Sequential(nn.Conv2d(1, 2, 3)))
    assert (report.weight_share, report.mac_share) == (0.0, 0.0)
    assert report.digital_layers == {"0": "not converted"}


def test_a_model_without_products_has_no_share_at_all():
    report = coverage(nn.Sequential(nn.ReLU()))
    assert math.isnan(report.weight_share)


def test_the_default_input_fits_a_first_layer_that_is_digital():
    model = nn.Sequential(nn.Conv2d(5, 2, 1), nn.Conv2d(2, 2, 1))
    report = coverage(convert(model, create_rpu_config("pcm"), digital_layers=["0"]))
    assert report.mac_share == pytest.approx(4 / 14)


def test_an_input_that_the_model_does_not_take_is_refused():
    with pytest.raises(ShapeError, match=r"\(1, 3, 8, 8\)"):
        coverage(nn.Sequential(nn.Conv2d(5, 2, 1)), (1, 3, 8, 8))


def test_reporting_leaves_the_model_as_it_was():
    model = convert(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), create_rpu_config())
    model.train()
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    text = str(coverage(model))
    assert [m.training for m in model.modules()] == [True, True, False]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    assert "100.0% of the weights" in text


class OfTwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, images, others):
        return self.conv(images) + others


def test_a_model_that_takes_more_than_images_has_no_share_of_products():
    report = coverage(convert(OfTwoInputs(), create_rpu_config()))
    assert report.weight_share == 1
    assert math.isnan(report.mac_share)


@pytest.mark.parametrize("scale", ["tile", "column"])
def test_learned_output_scales_are_no_weights(scale):
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    config = create_rpu_config("pcm", learned_out_scale=scale)
    report = coverage(convert(model, config, digital_layers=["1"]))
    assert (report.weight_share, report.mac_share) == (0.5, 0.5)


def test_reporting_draws_nothing_from_torchs_generator():
    analog = convert(nn.Sequential(nn.Conv2d(3, 4, 3)), create_rpu_config())
    before = torch.get_rng_state()
    coverage(analog)
    assert torch.equal(torch.get_rng_state(), before)
