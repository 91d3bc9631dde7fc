"""Weights of unusual pixels: their densities, their map, and a network of smaller images."""

import sys

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from analogmed.analog import convert, coverage
from analogmed.foundation.errors import ConfigError, DataError, ShapeError
from analogmed.models import build_model, required_divisor
from analogmed.models.classification.intensities import count_levels, densities, quantise
from analogmed.models.classification.region_of_interest import PixelWeights

LIGHT = {"name": "light_classifier", "options": {"features": [4, 4, 4], "hidden": 8}}


def images(n=40, size=16):
    """Dark images with a bright upper half, uint8 (n, size, size)."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(20, 60, size=(n, size, size))
    drawn[:, : size // 2] += 150
    return drawn.astype(np.uint8)


def scaled(pixels):
    return (pixels.astype(np.float32) / 127.5 - 1)[:, None]


def network(**options):
    return build_model(
        "region_of_interest", in_channels=1, out_channels=2, window=16, model=LIGHT, **options
    )


def test_the_density_of_a_pixel_is_the_kernel_density_of_its_grey_levels():
    drawn = images(size=4) // 2 + 60  # away from 0 and 255, beyond which a kernel loses its mass
    found = densities(count_levels(drawn, 16), bandwidth=5.0)
    pixel = drawn[:, 1, 2].astype(float)
    expected = gaussian_kde(pixel, bw_method=5.0 / pixel.std(ddof=1))(np.arange(256))
    np.testing.assert_allclose(found[1 * 4 + 2], expected, atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=1), 1)


class TestWithMiniSom:
    @pytest.fixture(autouse=True)
    def _minisom(self):
        pytest.importorskip("minisom")

    def test_the_map_separates_pixels_of_other_densities_and_follows_from_its_seed(self):
        rows = densities(count_levels(images(), 256), bandwidth=8.0)
        prototypes, nearest = quantise(rows, 2, seed=3)
        upper, lower = nearest[:128], nearest[128:]
        assert not set(upper) & set(lower)
        np.testing.assert_allclose(prototypes.sum(axis=1), 1)
        distances = ((rows[:, None] - prototypes) ** 2).sum(-1)
        np.testing.assert_array_equal(nearest, distances.argmin(axis=1))
        np.testing.assert_array_equal(quantise(rows, 2, seed=3)[0], prototypes)

    @pytest.mark.parametrize("weighting", ["multiply", "channel"])
    def test_an_object_where_images_are_dark_gets_a_high_weight(self, weighting):
        weigh = PixelWeights((16, 16), weighting, side=2)
        weigh.fit_to(scaled(images()), seed=0)
        drawn = images(1)
        drawn[0, 12, 5] = drawn[0, 2, 5]  # usual above, not below
        image = torch.from_numpy(scaled(drawn))
        weights = weigh.weights(image)
        assert weights[0, 0, 12, 5] > 0.95
        assert weights[0, 0, 2, 5] < 0.6
        assert (weights >= 0).all() and (weights <= 1).all()
        outputs = weigh(image)
        if weighting == "channel":
            torch.testing.assert_close(outputs, torch.cat([image, 2 * weights - 1], 1))
        else:
            torch.testing.assert_close(outputs + 1, (image + 1) * (1 + weights))

    def test_images_of_another_size_or_range_are_refused(self):
        weigh = PixelWeights((16, 16), "multiply")
        with pytest.raises(DataError, match=r"expected images of shape \(1, 16, 16\), got one of"):
            weigh.fit_to(scaled(images(2, size=8)), seed=0)
        with pytest.raises(DataError, match=r"values from -1 to 1, got one from -2\.53 to"):
            weigh.fit_to(3 * scaled(images(2)), seed=0)


def test_without_the_package_a_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "minisom", None)
    with pytest.raises(ConfigError, match=r"needs the package minisom; install it .*\[roi\]"):
        PixelWeights((16, 16), "multiply").fit_to(scaled(images(2)), seed=0)


def test_before_fitting_the_network_sees_the_reduced_image():
    model = network().eval()
    image = torch.from_numpy(scaled(images(3)))
    small = torch.nn.functional.avg_pool2d(image, 2)
    torch.testing.assert_close(model(image), model.network(small))


@pytest.mark.parametrize(("weighting", "channels", "macs"), [("channel", 2, 256), ("none", 1, 0)])
def test_weights_are_listed_as_digital_products(weighting, channels, macs):
    model = network(weighting=weighting)
    assert model.network.convolutions[0].in_channels == channels
    analog = convert(model, "ideal")
    found = coverage(analog, (1, 1, 16, 16))
    assert found.weight_share == 1
    assert list(found.digital_layers) == (["weigh"] if macs else [])
    assert found.mac_share == pytest.approx(1 - macs / (found_macs(model) + macs))


def found_macs(model):
    """Count the multiply-accumulates of the light classifier for one image."""
    sides = (8, 4, 2)
    convolutions = [model.network.convolutions[place] for place in (0, 3, 6)]
    counts = [
        layer.weight.numel() * side**2 for layer, side in zip(convolutions, sides, strict=True)
    ]
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    return sum(counts) + sum(layer.weight.numel() for layer in linear)


def test_sizes_are_multiples_of_the_networks_times_the_reduction():
    assert required_divisor("region_of_interest", reduction=4) == (32, 32)
    options = {"reduction": 2, "model": {"name": "densenet121"}}
    assert required_divisor("region_of_interest", **options) == (64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": 3}, "reduction: expected a number that divides the window"),
        ({"weighting": "add"}, "weighting: unknown value 'add'"),
        ({"side": 0}, "side: expected a whole number from 1 to 16, got 0"),
        ({"bandwidth": 0.0}, "bandwidth"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        network(**options)


def test_another_network_needs_a_name_and_only_options():
    with pytest.raises(ConfigError, match="model: expected name and options, such as"):
        build_model("region_of_interest", in_channels=1, out_channels=1, model={"networks": "unet"})


def test_images_of_several_channels_and_other_sizes_are_refused():
    with pytest.raises(ConfigError, match="2D images of one channel, got 2D images of 3"):
        build_model("region_of_interest", in_channels=3, out_channels=1)
    with pytest.raises(ShapeError, match=r"built for images of \(16, 16\); got \(8, 8\)"):
        network()(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "densenet121"}, "model.options.model: expected name and options.*'densenet121'"),
        ({"model": {"options": {"window": 8}}}, "model.options.model: window follows from"),
        ({"reduction": 2.0}, "model.options.reduction: expected a whole number"),
        ({"reduction": 3}, r"model.options.reduction: .* divides the window \(32, 32\), got 3"),
        ({"side": "4"}, "model.options.side: expected a whole number from 1 to 16, got '4'"),
        ({"bandwidth": float("inf")}, "model.options.bandwidth"),
        ({"window": [32]}, "model.options.window: expected one size or two"),
    ],
)
def test_options_of_another_kind_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("region_of_interest", in_channels=1, out_channels=2, **options)
