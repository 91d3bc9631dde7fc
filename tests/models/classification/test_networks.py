"""Networks that classify whole images."""

import pytest
import torch

from analogmed.analog import convert, coverage
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.hardware import map_tiles
from analogmed.models import build_model, required_divisor


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("window", "expected"), [(64, 2_257_285), (256, 33_714_565)])
def test_the_light_classifier_has_the_weights_of_its_source(window, expected):
    with torch.device("meta"):
        network = build_model("light_classifier", in_channels=1, out_channels=5, window=window)
    assert parameters(network) == expected


def test_the_light_classifier_gives_one_logit_per_class_and_image():
    network = build_model("light_classifier", in_channels=3, out_channels=4, window=[16, 24])
    assert network(torch.rand(2, 3, 16, 24)).shape == (2, 4)
    with pytest.raises(ShapeError, match=r"built for images of \(16, 24\); got \(32, 32\)"):
        network(torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 28}, "expected a multiple of 8 for each of 2"),
        ({"features": [8, 8]}, "expected 3 numbers of channels"),
        ({"hidden": 1}, "expected 2 or more, got 1"),
        (
            {"window": [32], "spatial_dims": 2},
            r"for each of 2 dimensions, got \(32,\)",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("light_classifier", in_channels=1, out_channels=1, **options)


@pytest.mark.parametrize("axes", [1, 3])
def test_images_may_have_any_number_of_axes(axes):
    network = build_model(
        "light_classifier", in_channels=2, out_channels=3, spatial_dims=axes, window=16
    )
    images = torch.rand(2, 2, *(16,) * axes)
    assert network(images).shape == (2, 3)
    analog = convert(network.eval(), "ideal")
    torch.testing.assert_close(analog(images), network(images))


def test_densenet_has_the_weights_of_its_source_and_needs_multiples_of_32():
    with torch.device("meta"):
        network = build_model("densenet121", in_channels=1, out_channels=14)
    assert parameters(network) == 6_961_934
    assert required_divisor("densenet121") == (32, 32)


def test_a_smaller_densenet_has_narrower_and_fewer_layers():
    options = {"features": 8, "growth": 4, "blocks": [2, 3]}
    network = build_model("densenet121", in_channels=1, out_channels=2, **options).eval()
    assert required_divisor("densenet121", **options) == (8, 8)
    assert network(torch.zeros(3, 1, 8, 16)).shape == (3, 2)
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 2 * (2 + 3) + 1  # entry, layers of two, one transition
    assert network.class_layers.out.in_features == (8 + 2 * 4) // 2 + 3 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 1}, r"features.* 2 or more, got 1"),
        ({"growth": 0}, r"growth.* 1 or more, got 0"),
        ({"blocks": [2, 0]}, r"blocks.* 1 or more, got 0"),
        ({"blocks": 5}, r"blocks: expected a list of one or more numbers of layers.*got 5"),
        ({"blocks": []}, r"blocks: expected a list of one or more"),
    ],
)
def test_sizes_of_a_densenet_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("densenet121", in_channels=1, out_channels=1, **options)


@pytest.mark.slow
def test_depthwise_convolutions_of_efficientnet_are_digital_unless_they_are_wanted_on_tiles():
    network = build_model("efficientnet", in_channels=1, out_channels=1).eval()
    assert parameters(network) == 4_008_253
    assert required_divisor("efficientnet") == (32, 32)
    mapped = map_tiles(network, (1, 1, 32, 32), 256)
    assert mapped.summary()["tiles"] == 184
    assert len(mapped.digital_layers) == 16
    covered = coverage(convert(network, "pcm"))
    assert covered.weight_share == pytest.approx(0.954, abs=5e-4)
    options = {"depthwise": "analog", "in_channels": 1, "out_channels": 1}
    with torch.device("meta"):
        network = build_model("efficientnet", **options)
    assert not any(getattr(layer, "stays_digital", False) for layer in network.modules())


def test_options_of_efficientnet_are_checked():
    for options, message in (
        ({"variant": "b9"}, r"model.options.variant: unknown value 'b9'; choose from: b0"),
        ({"depthwise": "tiles"}, "model.options.depthwise: unknown value 'tiles'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_model("efficientnet", in_channels=1, out_channels=1, **options)


@pytest.mark.parametrize(
    "name", ["light_classifier", pytest.param("densenet121", marks=pytest.mark.slow)]
)
def test_all_weights_are_on_tiles(name):
    network = build_model(name, in_channels=1, out_channels=2).eval()
    assert network(torch.rand(1, 1, 32, 32)).shape == (1, 2)
    assert coverage(convert(network, "pcm")).weight_share == 1.0
