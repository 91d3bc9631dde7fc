"""Networks whose products do not follow from torch's registration of layers."""

import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from analogmed.analog import Chip, calibrate, convert, coverage, create_rpu_config
from analogmed.analog.layers.base import AnalogLayer
from analogmed.network.products import unregistered_layers


class Standardised(nn.Conv2d):
    """Weight standardisation, in the method that torch's forward calls."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean((1, 2, 3), keepdim=True), bias)


class Padded(nn.ConvTranspose2d):
    def _output_padding(self, *args, **kwargs):
        return [1, 1]


class Called(nn.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Standardised(3, 4, 3), (2, 3, 8, 8)),
        (Padded(3, 4, 3, stride=2), (2, 3, 8, 8)),
        (Called(3, 4), (2, 3)),
    ],
)
def test_a_subclass_that_overrides_a_part_of_the_product_stays_digital(layer, shape):
    model = nn.Sequential(layer, nn.Identity(), nn.Conv2d(4, 2, 1) if len(shape) > 2 else
                          nn.Linear(4, 2)).eval()  # fmt: skip
    images = torch.randn(shape)
    analog = convert(model, create_rpu_config("ideal"))
    torch.testing.assert_close(analog(images), model(images), atol=1e-5, rtol=1e-5)
    assert "does not compute" in coverage(analog).digital_layers["0"]


def test_a_forward_that_was_replaced_on_the_instance_stays_digital_and_is_listed():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)).eval()
    model[0].forward = types.MethodType(lambda self, x: 2 * F.conv2d(x, self.weight), model[0])
    images = torch.randn(2, 3, 4, 4)
    analog = convert(model, create_rpu_config("ideal"))
    torch.testing.assert_close(analog(images), model(images), atol=1e-5, rtol=1e-5)
    assert "replaced on the instance" in coverage(analog).digital_layers["0"]


class Listed(nn.Module):
    """Registered layers that the forward pass takes from a plain list and a dict."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.path, self.by_name = [self.a, self.b], {"c": (self.c,)}

    def forward(self, x):
        for layer in self.path:
            x = layer(x).relu()
        return self.by_name["c"][0](x)


@pytest.mark.parametrize("backend", ["torch", "aihwkit"])
def test_layers_in_a_plain_list_are_those_on_tiles(backend):
    model = Listed().eval()
    analog = convert(model, create_rpu_config("pcm"), backend=backend)
    assert analog.path[0] is analog.a and analog.by_name["c"][0] is analog.c
    assert type(model.a) is nn.Conv2d and analog.a.weight is not model.a.weight \
        if backend == "torch" else True  # fmt: skip
    images = torch.rand(2, 3, 8, 8)
    calibrate(analog, [images])
    first, second = (Chip(analog, seed=seed).at(0.0)(images) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.allclose(first, model(images), rtol=1e-3)


def test_the_digital_original_gets_none_of_the_hooks_of_its_twin():
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    analog = convert(model, create_rpu_config("ideal"))
    analog[0].register_forward_hook(lambda *_: seen.append(2))
    analog(torch.rand(1, 3, 4, 4))
    assert seen == [1, 2]
    model(torch.rand(1, 3, 4, 4))
    assert seen == [1, 2, 1]


class Functional(nn.Module):
    """Weights that are multiplied by functions, and a layer whose weight alone is used."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 1)
        self.w = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.inner = nn.Conv2d(4, 4, 1)
        self.a, self.b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 4))
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.register_buffer("fixed", torch.ones(4, 4, 1, 1))

    def forward(self, x):
        x = self.scale * F.conv2d(self.first(x), self.w - self.w.mean(), padding=1)
        x = F.conv2d(F.conv2d(x, self.inner.weight), self.fixed)
        return torch.einsum("bchw,cd->bdhw", x, self.a @ self.b)


def test_weights_that_functions_multiply_are_listed_as_digital_with_their_products():
    report = coverage(convert(Functional(), create_rpu_config("pcm")), (1, 2, 8, 8))
    assert set(report.digital_products) == {"w", "inner.weight", "a", "b"}
    assert report.uncalled_layers == ("inner",)
    functional = 4 * 4 * 9 + 16 + 8 + 8
    assert report.weight_share == pytest.approx(8 / (8 + functional))
    macs = 64 * (4 * 4 * 9 + 16 + 16)
    assert report.mac_share == pytest.approx(64 * 8 / (64 * 8 + macs))
    text = str(report)
    assert "digital: w: it is multiplied outside of a layer" in text
    assert "not called: inner" in text


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.rest = [nn.Conv2d(3, 3, 1), nn.ReLU()]

    def forward(self, x):
        for layer in (self.first, *self.rest):
            x = layer(x)
        return x


def test_layers_that_torch_does_not_register_are_named():
    assert unregistered_layers(Hidden()) == {"rest[0]": "Conv2d"}
    assert unregistered_layers(nn.Sequential(Hidden())) == {"0.rest[0]": "Conv2d"}
    assert unregistered_layers(Listed()) == {}
    with pytest.warns(UserWarning, match=r"rest\[0\] \(Conv2d\).*nn\.ModuleList"):
        analog = convert(Hidden(), create_rpu_config("pcm"))
    assert "no parameter of the network" in str(coverage(analog))


def test_a_network_without_such_products_lists_none():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    report = coverage(convert(model, create_rpu_config("pcm")), (1, 5, 8))
    assert report.digital_products == {}
    assert report.uncalled_layers == ()
    assert isinstance(convert(model, create_rpu_config("pcm")).linear1, AnalogLayer)
