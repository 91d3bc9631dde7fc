import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from analogmed.analog import create_rpu_config
from analogmed.analog.conversion import convert
from analogmed.network.layers.matrix import MAPPED, WeightMatrix, count_vectors

LAYERS = {
    "linear": (nn.Linear(6, 5, bias=False), (7, 6)),
    "convolution": (nn.Conv2d(4, 6, (3, 2), stride=2, bias=False), (1, 4, 9, 8)),
    "groups": (nn.Conv1d(4, 6, 3, groups=2, bias=False), (1, 4, 9)),
    "volume": (nn.Conv3d(2, 3, 2, bias=False), (1, 2, 4, 5, 6)),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False), (1, 4, 5, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_matrix_of_a_layer_is_that_of_its_analog_twin(name):
    layer, _ = LAYERS[name]
    (twin,) = convert(nn.Sequential(layer), create_rpu_config("ideal"))
    matrix = WeightMatrix.of(layer)
    assert isinstance(layer, MAPPED)
    assert (matrix.groups, matrix.cols, matrix.rows) == twin.weight_matrix().shape
    assert matrix.channel_rows == twin.channel_rows


@pytest.mark.parametrize("name", LAYERS)
def test_uses_of_the_matrix_yield_the_multiply_accumulates_that_torch_counts(name):
    layer, shape = LAYERS[name]
    inputs = torch.zeros(shape)
    counter = FlopCounterMode(display=False)
    with counter:
        output = layer(inputs)
    macs = count_vectors(layer, inputs, output) * WeightMatrix.of(layer).weights
    assert 2 * macs == counter.get_total_flops()
