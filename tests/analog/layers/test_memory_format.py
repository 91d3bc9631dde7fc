"""Memory formats of maps, and networks that depend on them."""

import itertools

import pytest
import torch
from torch import nn

from analogmed.analog import Chip, calibrate, convert, create_rpu_config
from analogmed.analog.engines.layout import (
    CHANNELS_LAST,
    format_of,
    plain_if_one_channel,
    with_strides_of,
)
from analogmed.foundation.errors import ShapeError

PLAIN = torch.contiguous_format
LAYOUTS = {
    "plain": lambda x, last: x,
    "last": lambda x, last: x.to(memory_format=last),
    "asked for": lambda x, last: x.contiguous(memory_format=last),
    "moved": lambda x, last: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "every other": lambda x, last: x.repeat_interleave(2, -1)[..., ::2],
    "of a batch": lambda x, last: x.repeat(3, *(1,) * (x.ndim - 1))[: len(x)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("convolution", [nn.Conv2d, nn.Conv3d])
def test_a_map_has_the_format_that_torchs_convolution_gives_its_output(convolution, layout):
    """In batches of two: a single volume comes out of torch 2.13 contiguous in any case."""
    axes = {nn.Conv2d: 2, nn.Conv3d: 3}[convolution]
    for shape in itertools.product((2,), (1, 3), *[(1, 4)] * axes):
        last = CHANNELS_LAST[len(shape)]
        values = LAYOUTS[layout](torch.randn(shape), last)
        outputs = convolution(shape[1], 5, 3, padding=2)(values)
        assert outputs.is_contiguous(memory_format=format_of(values)), shape


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 3, 1, 1), (2, 1, 3, 4, 5), (3, 5)])
def test_strides_are_set_without_a_copy_and_without_a_view(shape):
    values = torch.randn(shape)
    for layout in (CHANNELS_LAST.get(len(shape), PLAIN), PLAIN):
        found = with_strides_of(values, layout)
        assert format_of(found) is layout
        assert torch.equal(found, values) and found.data_ptr() == values.data_ptr()
        assert not found._is_view()


def test_a_map_of_one_channel_gets_contiguous_strides_and_keeps_its_gradient():
    leaf = torch.randn(2, 1, 4, 5, requires_grad=True)
    found = plain_if_one_channel(leaf.to(memory_format=torch.channels_last))
    assert found.stride() == (20, 20, 5, 1) and torch.equal(found, leaf)
    found.sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(leaf))
    others = torch.randn(2, 2, 4, 5).to(memory_format=torch.channels_last)
    assert plain_if_one_channel(others) is others


class Viewing(nn.Module):
    """A classifier that flattens its feature map as many do."""

    def __init__(self, channels, *, views):
        super().__init__()
        self.conv, self.inner = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, 1, 1)
        self.fc, self.views = nn.Linear(6 * 36, 2), views

    def forward(self, images):
        maps = self.conv(images).relu_()
        mask = self.inner(maps).sigmoid_()
        if self.views:
            mask = mask.view(len(mask), 1, 1, -1).view(mask.shape)
            return self.fc((maps * mask).view(len(maps), -1))
        return self.fc((maps * mask).reshape(len(maps), -1))


HARDWARE = [{}, {"noise_management": "abs_max"}]


def viewing(channels, hardware, *, views):
    torch.manual_seed(0)
    network = Viewing(channels, views=views)
    images = torch.rand(4, channels, 6, 6)
    config = create_rpu_config("pcm", tile_size=32, **hardware)
    return calibrate(convert(network, config), [images]), images


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_views_its_maps_runs_and_trains_as_one_that_reshapes_them(
    channels, hardware
):
    found = []
    for views in (True, False):
        model, images = viewing(channels, hardware, views=views)
        for mode in (model.eval(), model.train()):
            torch.manual_seed(1)
            outputs = mode(images)
            outputs.square().sum().backward()
            found.append(outputs.detach())
        found.append(model.conv.weight.grad)
    half = len(found) // 2
    assert all(map(torch.equal, found[:half], found[half:]))


@pytest.mark.parametrize("hardware", [*HARDWARE, {"inp_noise": 0.02}])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_views_its_maps_gives_the_same_logits_on_a_chip(channels, hardware):
    found = []
    for views in (True, False):
        model, images = viewing(channels, hardware, views=views)
        read = Chip(model, seed=1).at(3600.0).restart("case")
        found.append([read(images), read(images), read.restart("case")(images)])
    viewed, reshaped = found
    for one, other in zip(viewed, reshaped, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert torch.equal(viewed[0], viewed[2]) and not torch.equal(viewed[0], viewed[1])


def test_another_error_of_a_network_is_not_taken_for_a_view():
    model, images = viewing(3, {}, views=False)
    with pytest.raises(ShapeError, match="a Linear layer needs"):
        Chip(model).at(0.0)(images[:, :, :5])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_chip_reads_images_in_channels_last_where_the_network_allows_it(channels):
    model, images = viewing(channels, {}, views=False)
    seen = []
    model.conv.register_forward_hook(lambda layer, inputs, output: seen.append(format_of(output)))
    Chip(model).at(0.0)(images)
    model(images)
    assert seen == [torch.channels_last, PLAIN]
