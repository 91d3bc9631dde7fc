"""aihwkit's own tiles as the oracle: applied to input vectors that are laid out here."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from aihwkit.simulator.configs import InferenceRPUConfig
from aihwkit.simulator.parameters.io import IOParameters
from aihwkit.simulator.tiles.array import TileModuleArray
from aihwkit.simulator.tiles.inference import InferenceTile
from torch import Tensor, nn

from analogmed.analog import convert
from analogmed.analog.layers import base as analog_layer


def tiles_of(layer: nn.Module) -> list[TileModuleArray]:
    """One array of aihwkit tiles for each group of an analog layer, with the same weights."""
    arrays = []
    for matrix in layer.weight_matrix().detach():
        array = TileModuleArray(matrix.shape[0], matrix.shape[1], layer.rpu_config)
        array.set_weights(matrix)
        if layer.input_range is not None:
            for row, limit in zip(array.array, layer.input_range.detach(), strict=True):
                for tile in row:
                    tile.input_range.data[:] = limit
                    tile.input_range_update_idx.data[:] = (
                        tile.rpu_config.pre_post.input_range.init_from_data
                    )
        arrays.append(array.train(layer.training))
    return arrays


def apply_tiles(layer: nn.Module, arrays: list[TileModuleArray], inputs: Tensor) -> Tensor:
    """The layer's output, if aihwkit's tiles compute its matrix products."""
    if isinstance(layer, nn.Linear):
        return arrays[0](inputs) + (0 if layer.bias is None else layer.bias)
    outputs = [
        (_transpose_convolve if layer.transposed else _convolve)(layer, array, part)
        for array, part in zip(arrays, inputs.chunk(layer.groups, 1), strict=True)
    ]
    bias = 0 if layer.bias is None else layer.bias.reshape(1, -1, *(1,) * len(layer.kernel_size))
    return torch.cat(outputs, 1) + bias


def _convolve(layer: nn.Module, array: TileModuleArray, inputs: Tensor) -> Tensor:
    pads = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    inputs = F.pad(inputs, pads, mode=mode)
    sizes = [
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, dilation, kernel, stride in zip(
            inputs.shape[2:], layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    ]
    taps = [
        inputs[(..., *_window(tap, layer, sizes))]
        for tap in itertools.product(*map(range, layer.kernel_size))
    ]
    vectors = torch.stack(taps, 2).flatten(1, 2).flatten(2).transpose(1, 2)
    return _products(array, vectors).transpose(1, 2).unflatten(2, sizes)


def _products(array: TileModuleArray, vectors: Tensor) -> Tensor:
    """(B, positions, rows) to (B, positions, columns); tiles with IR drop take a list only."""
    return array(vectors.flatten(0, 1)).unflatten(0, vectors.shape[:2])


def _window(tap: tuple[int, ...], layer: nn.Module, sizes: list[int]) -> list[slice]:
    starts = [t * d for t, d in zip(tap, layer.dilation, strict=True)]
    return [
        slice(start, start + stride * (size - 1) + 1, stride)
        for start, stride, size in zip(starts, layer.stride, sizes, strict=True)
    ]


def _transpose_convolve(layer: nn.Module, array: TileModuleArray, inputs: Tensor) -> Tensor:
    sizes = list(inputs.shape[2:])
    columns = _products(array, inputs.flatten(2).transpose(1, 2)).transpose(1, 2)
    columns = columns.unflatten(2, sizes).unflatten(1, (-1, math.prod(layer.kernel_size)))
    full = [
        (size - 1) * stride + dilation * (kernel - 1) + 1 + extra
        for size, stride, dilation, kernel, extra in zip(
            sizes,
            layer.stride,
            layer.dilation,
            layer.kernel_size,
            layer.output_padding,
            strict=True,
        )
    ]
    canvas = inputs.new_zeros(len(inputs), columns.shape[1], *full)
    for index, tap in enumerate(itertools.product(*map(range, layer.kernel_size))):
        canvas[(..., *_window(tap, layer, sizes))] += columns[:, :, index]
    crop = [slice(p, n - p) for p, n in zip(layer.padding, full, strict=True)]
    return canvas[(..., *crop)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need aihwkit's compiled tile."""
    for item in items:
        if "compiled_tile" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.compiled_tile)


@pytest.fixture
def oracle() -> Callable[[nn.Module, Tensor], Tensor]:
    """From an analog layer and an input to what aihwkit's tiles would give."""
    return lambda layer, inputs: apply_tiles(layer, tiles_of(layer), inputs)


@pytest.fixture
def oracle_tiles() -> tuple[Callable, Callable]:
    """``tiles_of`` and ``apply_tiles``, for tests that look at the tiles too."""
    return tiles_of, apply_tiles


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Same draws in every test; ``torch.manual_seed`` also writes a stack for each absent GPU."""
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:
        torch.default_generator.manual_seed(0)


@pytest.fixture
def analog_of() -> Callable[..., nn.Module]:
    """One layer, converted."""
    return lambda layer, config, **options: convert(nn.Sequential(layer), config, **options)[0]


@pytest.fixture
def use_engine(monkeypatch) -> Callable[[Callable], None]:
    """Let a function of layer and input choose the engine of every product from here on."""
    return lambda choose: monkeypatch.setattr(analog_layer, "engine_for", choose)


@pytest.fixture(scope="session")
def compiled_tile() -> Callable[..., InferenceTile]:
    """From weights (columns, rows) and aihwkit's parameters to a tile that aihwkit compiled."""

    def build(weight: Tensor, **parameters: object) -> InferenceTile:
        tile = InferenceTile(weight.shape[0], weight.shape[1], InferenceRPUConfig(**parameters))
        tile.tile.set_weights(weight)
        return tile

    try:
        build(torch.eye(2), forward=IOParameters(is_perfect=True))(torch.eye(2))
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        pytest.skip(
            f"aihwkit's compiled tile does not run with torch {torch.__version__}: {reason}"
        )
    return build
