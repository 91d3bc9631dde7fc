import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from analogmed.analog import calibrate, convert, create_rpu_config
from analogmed.analog.output_range import LARGEST_SHARE, clipped_shares


def linear(rows):
    """A layer on constant inputs of 1: the sum of a column is that of its weights of 1 and -1."""
    layer = nn.Linear(rows.shape[1], len(rows))
    with torch.no_grad():
        layer.weight.copy_(rows)
    return layer


ALL, BALANCED = torch.ones(32), torch.ones(32) - 2 * (torch.arange(32) % 2)


def on_tiles(*layers, **options):
    return convert(nn.Sequential(*layers), create_rpu_config("pcm", **options)).eval()


@pytest.mark.parametrize(("above", "warns"), [(0, False), (1, False), (2, True), (4, True)])
def test_a_warning_names_the_layers_whose_sums_exceed_the_output_converter(above, warns):
    rows = torch.stack([ALL] * above + [BALANCED] * (4 - above))
    model = on_tiles(linear(rows), nn.Sigmoid(), nn.Linear(4, 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        calibrate(model, [torch.ones(2, 32)])
    assert clipped_shares(model, [torch.ones(2, 32)]) == {"0": above / 4, "2": 0.0}
    assert (above / 4 > LARGEST_SHARE) is warns is bool(caught)
    if warns:
        (warning,) = caught
        text = str(warning.message)
        assert f"sums of 0 ({above / 4:.0%}) exceed" in text and "2 (" not in text
        assert "out_bound 10)" in text and "keep 0 digital (digital_layers)" in text
        assert warning.filename == __file__


@pytest.mark.parametrize("options", [{"out_bound": 33.0}, {"perfect": True}, {"tile_size": 8}])
def test_sums_within_the_range_of_the_converter_are_silent(options):
    model = on_tiles(linear(torch.stack([ALL] * 4)), **options)
    calibrate(model, [torch.ones(2, 32)])
    assert not any(clipped_shares(model, [torch.ones(2, 32)]).values())


def test_copies_on_idle_rows_make_the_sums_as_many_times_as_large():
    few = torch.cat([torch.ones(8), torch.zeros(24)])
    for copies, share in ((1, 0.0), (4, 1.0)):  # sums of 8 and 32 for a bound of 10
        model = on_tiles(linear(torch.stack([few] * 4)), row_copies=copies)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calibrate(model, [torch.ones(2, 32)])
        assert clipped_shares(model, [torch.ones(2, 32)]) == {"0": share}


@pytest.mark.parametrize("quantile", [1.0, 0.99])
def test_input_ranges_are_widened_until_the_sums_fit(quantile):
    rows = torch.stack([ALL, ALL, BALANCED])
    model = on_tiles(linear(rows), nn.Linear(3, 2))
    with pytest.warns(UserWarning, match="sums of 0"):
        plain = calibrate(copy.deepcopy(model), [torch.ones(2, 32)], quantile=quantile)
    calibrate(model, [torch.ones(2, 32)], quantile=quantile, fit_outputs=True)
    assert model[0].input_range.item() == pytest.approx(3.2, rel=1e-3)
    assert not any(clipped_shares(model, [torch.ones(2, 32)]).values())
    assert torch.equal(model[1].input_range, plain[1].input_range)


def test_rows_of_tiles_are_widened_apart():
    rows = torch.cat([ALL, BALANCED]).repeat(4, 1)
    model = on_tiles(linear(rows), tile_size=32)
    calibrate(model, [torch.ones(2, 64)], fit_outputs=True)
    assert model[0].input_range.tolist() == pytest.approx([3.2, 1.0], rel=1e-3)


def test_the_worst_layer_is_first_and_further_ones_are_counted():
    worst = [linear(torch.stack([ALL] * n + [BALANCED] * (32 - n))) for n in (16, 20, 24, 28, 32)]
    lifted = [each for layer in worst for each in (layer, nn.Hardtanh(1, 1 + 1e-6))]
    model = on_tiles(*lifted)
    with pytest.warns(UserWarning, match=r"sums of 8 \(100%\), 6 \(88%\), 4 \(75%\) and 2 further"):
        calibrate(model, [torch.ones(1, 32)])


def test_the_share_is_that_of_a_convolution_with_clipped_inputs():
    layer = nn.Conv2d(16, 8, 3, padding=1, groups=2)
    model, images = on_tiles(layer, out_bound=2.0), torch.randn(3, 16, 9, 9)
    with pytest.warns(UserWarning, match="output converter"):
        calibrate(model, [images[:1], images[1:]], quantile=0.9)
    scale = layer.weight.abs().amax((1, 2, 3), keepdim=True)
    scale = scale.reshape(2, 4).amax(1).repeat_interleave(4).reshape(8, 1, 1, 1)
    clipped = (images / model[0].input_range.detach()).clamp(-1, 1)
    columnwise = model[0].rpu_config.mapping.weight_scaling_columnwise
    scale = layer.weight.abs().amax((1, 2, 3), keepdim=True) if columnwise else scale
    sums = F.conv2d(clipped, layer.weight / scale, padding=1, groups=2)
    expected = float((sums.abs() > 2).float().mean())
    assert 0.3 < expected < 0.9
    assert clipped_shares(model, [images]) == {"0": pytest.approx(expected, abs=0.005)}
