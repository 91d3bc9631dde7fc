import copy
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.models import Genotype, Level
from analogmed.models.subnet import Subnet
from analogmed.search.supernet.importance import (
    block_importance,
    importance_of_inputs,
    mean_of_level,
    scaled_weights,
)


def _with_weight(layer: nn.Module, weight: list) -> nn.Module:
    layer.weight.data = torch.tensor(weight, dtype=torch.float32)
    return layer


def _randomised(genotype: Genotype, in_channels: int = 2, out_channels: int = 3) -> Subnet:
    torch.manual_seed(5)
    network = Subnet(in_channels, out_channels, genotype.spatial_dims, genotype=genotype)
    for parameter in network.parameters():  # norms too: scales of 1 would hide that they count
        nn.init.normal_(parameter)
    return network


class _Scale(nn.Module):
    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, values: Tensor) -> Tensor:
        return values * self.scale.view(1, -1, *(1,) * (values.ndim - 2))


def _channelwise(module: nn.Module) -> nn.Module:
    """The network with absolute weights, kernels of one position, and all sizes alike."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        kernel = tuple(range(2, module.weight.ndim))
        one = type(module)(module.in_channels, module.out_channels, 1, bias=False).double()
        one.weight.data = module.weight.detach().abs().sum(kernel, keepdim=True)
        return one
    if isinstance(module, nn.Linear):
        module.weight.data.abs_()
        module.bias = None
    if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
        return _Scale(module.weight.detach().abs())
    passes_on = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.MaxPool3d, nn.Upsample, nn.Identity)
    if isinstance(module, passes_on):
        return _Scale(torch.ones(1, dtype=torch.float64))
    for name, child in module.named_children():
        setattr(module, name, _channelwise(child))
    return module


def _by_autograd(network: Subnet) -> dict[tuple[int, str], np.ndarray]:
    """Gradients of the summed logits: each is a sum over all ways from there to the logits."""
    twin, given = _channelwise(copy.deepcopy(network).double()), {}
    for number, level in enumerate(twin.levels):
        for part, module in level.named_children():

            def keep(_module, _inputs, output, key=(number, part)):
                given[key] = output * 1  # a tensor of its own, where a block passes on
                return given[key]

            module.register_forward_hook(keep)
    dims = network.genotype.spatial_dims
    size = (2**network.genotype.depth,) * dims
    images = torch.rand((1, 2, *size), dtype=torch.float64, requires_grad=True)
    twin(images).reshape(3, -1).mean(-1).sum().backward(inputs=list(given.values()))
    return {key: output.grad.flatten(2).sum((0, 2)).numpy() for key, output in given.items()}


def test_importance_of_two_layers_is_the_product_of_their_absolute_matrices():
    first = _with_weight(nn.Conv2d(2, 2, 1), [[[[1.0]], [[-2.0]]], [[[3.0]], [[4.0]]]])
    second = _with_weight(nn.Conv2d(2, 1, 1), [[[[-5.0]], [[6.0]]]])
    assert importance_of_inputs(second, torch.ones(1)).tolist() == [5.0, 6.0]
    network = nn.Sequential(first, nn.ReLU(), second)
    found = importance_of_inputs(network, torch.ones(1))
    assert found.tolist() == [1 * 5 + 3 * 6, 2 * 5 + 4 * 6]


def test_a_kernel_counts_with_its_sum_and_a_norm_with_its_scale():
    kernel = _with_weight(nn.Conv2d(1, 1, 3, padding=1), [[[[1, -1, 1], [0, 2, 0], [0, 0, -3]]]])
    norm = _with_weight(nn.InstanceNorm2d(1, affine=True), [-0.5])
    up = _with_weight(nn.ConvTranspose2d(1, 2, 2, 2), [[[[1, 1], [1, 1]], [[-2, 0], [0, 0]]]])
    found = importance_of_inputs(up, torch.tensor([1.0, 10.0]))
    assert found.tolist() == [4 * 1 + 2 * 10]
    network = nn.Sequential(kernel, norm, nn.MaxPool2d(2), nn.LeakyReLU(), up, nn.InstanceNorm2d(2))
    assert importance_of_inputs(network, torch.ones(2)).tolist() == [8 * 0.5 * (4 + 2)]


def test_channels_count_for_the_outputs_of_their_group_only():
    grouped = _with_weight(nn.Conv2d(2, 4, 1, groups=2), [[[[k]]] for k in (1.0, -2.0, 3.0, 4.0)])
    assert importance_of_inputs(grouped, torch.ones(4)).tolist() == [3.0, 7.0]


GENOTYPES = {
    "2d": Genotype((Level("C", 3, 3), Level("F", 4, 5), Level("E", 5, 3))),
    "one level": Genotype((Level("B", 3, 3),)),
    "identity within": Genotype(
        (Level("G", 2, 3), Level("identity"), Level("A", 3), Level("D", 2, 3))
    ),
    "identity innermost": Genotype((Level("A", 2), Level("identity"))),
    "identity first": Genotype((Level("identity"), Level("B", 2, 3))),
    "3d": Genotype((Level("I", 2, 3), Level("L", 3, 3), Level("A", 2)), 3),
    "classification": Genotype(
        (Level("C", 2, 3), Level("identity"), Level("F", 3, 3)), 2, "classification"
    ),
    "3d classification": Genotype((Level("M", 2, 3), Level("H", 3, 3)), 3, "classification"),
    "digital": Genotype((Level("C", 3, 3, "digital", "analog"), Level("B", 3, 3, "digital"))),
}


@pytest.mark.parametrize("name", GENOTYPES)
def test_importance_is_the_gradient_of_the_network_with_absolute_weights(name):
    network = _randomised(GENOTYPES[name])
    found, expected = block_importance(network), _by_autograd(network)
    assert found.keys() == expected.keys()
    for key, importance in found.items():
        np.testing.assert_allclose(importance.numpy(), expected[key], rtol=1e-12, err_msg=str(key))


def test_importance_is_the_sum_over_all_ways_to_the_logits():
    network = _randomised(Genotype((Level("B", 2, 3), Level("B", 2, 3))), out_channels=2)
    outer, inner = network.levels
    head, join, down, up = (
        layer.weight.detach().double().abs().sum((2, 3)).numpy()
        for layer in (network.head, outer.join[0], inner.down[0], outer.up)
    )
    expected = np.zeros(2)
    for channel, joined, out in itertools.product(range(2), range(2), range(2)):
        ways = join[joined, channel]  # by the skip
        for within, risen in itertools.product(range(2), range(2)):  # by the next level
            ways += down[within, channel] * up[within, risen] * join[joined, 2 + risen]
        expected[channel] += ways * head[out, joined]
    np.testing.assert_allclose(block_importance(network)[0, "down"].numpy(), expected, rtol=1e-12)


def test_a_level_counts_with_the_mean_over_the_channels_of_its_parts():
    network = _randomised(GENOTYPES["2d"])
    found = block_importance(network)
    outer = np.concatenate([found[0, part].numpy() for part in ("down", "up", "join")])
    assert mean_of_level(found, 0) == pytest.approx(outer.mean())
    assert mean_of_level(found, 2) == pytest.approx(found[2, "down"].mean().item())


def test_scaled_weights_add_up_to_the_importance_of_what_the_layer_reads():
    """abs(W).T @ s is the sum of abs(W times s of its output) over the kernel and the outputs."""
    network = _randomised(GENOTYPES["2d"])
    inner, found = network.levels[1], block_importance(network)
    first, second, up, join_first, join_second = scaled_weights(network, 1)
    weights = [inner.down[0], inner.down[2], inner.up, inner.join[0], inner.join[2]]
    shapes = [layer.weight.shape for layer in weights]  # F has two convolutions
    assert [w.shape for w in (first, second, up, join_first, join_second)] == shapes
    expected = importance_of_inputs(inner.down, found[1, "down"])
    torch.testing.assert_close(first.abs().sum((0, 2, 3)), expected)
    expected = importance_of_inputs(inner.up, found[1, "up"])
    torch.testing.assert_close(up.abs().sum((1, 2, 3)), expected)
    assert scaled_weights(_randomised(GENOTYPES["identity within"]), 1) == []


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(1), nn.PixelShuffle(2), nn.MultiheadAttention(2, 1)]
)
def test_a_layer_without_a_rule_is_refused(layer):
    with pytest.raises(ConfigError, match=f"no rule is known for {type(layer).__name__}"):
        importance_of_inputs(nn.Sequential(nn.Conv2d(1, 2, 1), layer), torch.ones(2))


def test_weights_that_are_not_finite_are_refused():
    layer = nn.Conv2d(1, 2, 1)
    layer.weight.data[0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"weights of Conv2d\(1, 2"):
        importance_of_inputs(layer, torch.ones(2))
