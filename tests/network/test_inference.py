import pytest
import torch
from torch import nn

from analogmed.foundation.errors import NonFiniteError
from analogmed.network.inference import predict_logits, to_classes


class Recorder(nn.Module):
    """A pointwise network: its value at a voxel does not depend on the window."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return torch.cat([images.sum(1, keepdim=True), 3 * images[:, :1] - 1], 1)


def expected(images):
    return torch.cat([images.sum(1, keepdim=True), 3 * images[:, :1] - 1], 1)


@pytest.fixture
def images():
    return lambda *shape: torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_images_of_the_windows_size_go_through_in_batches(images):
    network, stack = Recorder(), images(7, 3, 16, 16)
    logits = predict_logits(network, stack, window=(16, 16), batch_size=3)
    assert network.seen == [(3, 3, 16, 16), (3, 3, 16, 16), (1, 3, 16, 16)]
    assert torch.equal(logits, expected(stack))


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((2, 3, 10, 13), (16, 16)),
        ((2, 3, 37, 50), (16, 16)),
        ((2, 3, 10, 50), (16, 16)),
        ((1, 1, 9, 20, 33), (16, 16, 16)),
    ],
    ids=["smaller", "larger", "one axis each", "volume"],
)
def test_other_sizes_keep_their_shape_and_values(images, shape, window):
    network, stack = Recorder(), images(*shape)
    logits = predict_logits(network, stack, window=window, batch_size=4)
    torch.testing.assert_close(logits, expected(stack))
    assert all(seen[2:] == window and seen[0] <= 4 for seen in network.seen)


def test_a_smaller_image_stands_in_zeros(images):
    """A network that looks at neighbours sees zeros there, as beyond any border."""
    convolution = nn.Conv2d(1, 1, 3, padding=1)
    small = images(1, 1, 10, 13)
    with torch.no_grad():
        logits = predict_logits(convolution, small, window=(16, 16), batch_size=1)
        torch.testing.assert_close(logits, convolution(small))


@pytest.mark.parametrize("shape", [(0, 3, 16, 16), (1, 3, 0, 16)])
def test_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="no image"):
        predict_logits(Recorder(), torch.empty(shape), window=(16, 16), batch_size=1)


def test_one_logit_is_split_at_zero_which_is_a_probability_of_one_half():
    logits = torch.tensor([-1.0, -0.0, 1e-6, 5.0]).reshape(1, 1, 2, 2)
    assert to_classes(logits).tolist() == [[[0, 0], [1, 1]]]


def test_several_logits_give_the_largest():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0], [0.5, 3.0]]).reshape(1, 3, 1, 2)
    found = to_classes(logits)
    assert found.tolist() == [[[1, 2]]]
    assert found.dtype == torch.uint8


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_no_numbers_are_refused_with_their_count(bad):
    logits = torch.zeros(1, 1, 2, 3)
    logits[0, 0, 1, 2] = bad
    with pytest.raises(NonFiniteError, match="1 NaN or Inf logits of 6"):
        to_classes(logits)


class InPlace(torch.nn.Module):
    """Changes its input."""

    def forward(self, images):
        images -= 0.3
        return images.clamp_(min=0)[:, :1]


@pytest.mark.parametrize("size", [(8, 8), (6, 12), (20, 13)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_network_that_changes_its_input_in_place_leaves_the_images(size, batch_size):
    images = torch.rand(2, 2, *size)
    before = images.clone()
    network = InPlace()
    found = [
        predict_logits(network, images, window=(8, 8), batch_size=batch_size) for _ in range(2)
    ]
    assert torch.equal(images, before)
    assert torch.equal(found[0], found[1])
    expected = (images[:, :1] - 0.3).clamp(min=0)
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-6)
