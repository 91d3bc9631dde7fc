"""Who computes the products of a layer's tiles: plain torch, which defines them, or compiled code.

An engine adds up what all rows of tiles give. It asks the layer for the input that a row of tiles
sees, for the weight as a kernel, and for the linear map; what happens on the tile is the engine's.
"""

from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol, cast

import torch
from torch import Tensor

from analogmed.analog.direct_engine import DirectEngine
from analogmed.analog.effects import computes, not_computed
from analogmed.analog.input_range import pass_range_gradient
from analogmed.analog.irdrop import Wires, is_transient
from analogmed.analog.tile import Crossbar, disturbs_sums, read_tile, sees_vectors
from analogmed.analog.training_engine import TrainingEngine
from analogmed.analog.vector_engine import VectorEngine
from analogmed.foundation.errors import ConfigError

if TYPE_CHECKING:
    from aihwkit.simulator.parameters.io import IOParameters

    from analogmed.analog.layers import AnalogLayer, TileRow

EngineName = Literal["auto", "torch", "numba", "triton"]

_COMPILED_FOR = {"cpu": "numba", "cuda": "triton"}  # by type of device


class Engine(Protocol):
    """What a layer asks of an engine."""

    def product(self, layer: "AnalogLayer", inputs: Tensor, bias: Tensor | None) -> Tensor:
        """The matrix product of all tiles; partial sums are added digitally, and the bias.

        Args:
            layer: tiles, input ranges and the chip that is read, if one is.
            inputs: shape (B, channels, *positions).
            bias: shape (groups * columns,), or ``None``.

        Returns:
            shape (B, groups * columns, *output positions).
        """


def engine_for(layer: "AnalogLayer", inputs: Tensor) -> Engine:
    """The engine of one product; compiled code where the layer asks for it and it can."""
    asked_for = layer.engine in ("auto", _COMPILED_FOR.get(inputs.device.type))
    if not asked_for or not may_compile(layer) or not _is_plain(layer, inputs):
        return _TORCH
    io = layer.rpu_config.forward
    by_vectors = not computes("reading", io)
    if torch.is_grad_enabled() or layer.training:
        trains = computes("training", io)
        return (_training_engine(inputs.device.type) if trains else None) or _TORCH
    reading = _vector_engine if by_vectors else _compiled_engine
    return reading(inputs.device.type) or _TORCH


def may_compile(layer: "AnalogLayer") -> bool:
    """Whether the layer asks for compiled code, and its hardware has it."""
    return layer.engine != "torch" and compiles(layer.rpu_config.forward)


def check_engine(name: EngineName, io: "IOParameters") -> None:
    """Refuse an engine that could never compute this hardware, or that is not installed.

    Raises:
        ConfigError: says which field, or what to install.
    """
    if name == "triton":
        _check_triton(io)
    if name != "numba":
        return
    if missing := not_computed("vectors", io):
        raise ConfigError(
            f"backend 'numba': not implemented for {', '.join(missing)}. Use backend='auto', which "
            "computes this hardware with torch"
        )
    if _compiled_engine("cpu") is None:
        raise ConfigError("backend 'numba' needs the package numba; install it: pip install numba")


def _check_triton(io: "IOParameters") -> None:
    if missing := not_computed("reading", io):
        raise ConfigError(
            f"backend 'triton': not implemented for {', '.join(missing)}. Use backend='auto', "
            "which computes this hardware with torch"
        )
    if not torch.cuda.is_available():
        raise ConfigError(
            "backend 'triton' computes on a GPU, and torch finds none; take backend='auto', which "
            "computes on any device"
        )
    if _compiled_engine("cuda") is None:
        raise ConfigError(
            "backend 'triton' needs the package triton, which torch's builds for CUDA bring; "
            "install it: pip install triton"
        )


def compiles(io: "IOParameters") -> bool:
    """Whether compiled code computes these converters."""
    return computes("vectors", io)  # which computes all that the other compiled engines do


def _is_plain(layer: "AnalogLayer", inputs: Tensor) -> bool:
    return (
        inputs.dtype is torch.float32 and layer.weight.dtype is torch.float32 and inputs.numel() > 0
    )


@cache
def _compiled_engine(device: str) -> Engine | None:
    """``None`` where there is no compiled code for a device, or its compiler is not installed."""
    if device == "cuda":
        try:
            from analogmed.analog.triton_ops import TritonOps
        except ImportError:
            return None
        return DirectEngine(TritonOps())
    if device != "cpu":
        return None
    try:
        from analogmed.analog.numba_ops import NumbaOps
    except ImportError:
        return None
    return DirectEngine(NumbaOps())


@cache
def _vector_engine(device: str) -> Engine | None:
    """For CPUs so far; ``None`` where the compiler is not installed."""
    if device != "cpu":
        return None
    try:
        from analogmed.analog.numba_ops import NumbaOps
    except ImportError:
        return None
    return VectorEngine(NumbaOps())


@cache
def _training_engine(device: str) -> Engine | None:
    """For CPUs so far; ``None`` where the compiler is not installed."""
    if device != "cpu":
        return None
    try:
        from analogmed.analog.numba_training_ops import NumbaTrainingOps
    except ImportError:
        return None
    return TrainingEngine(NumbaTrainingOps())


class TorchEngine:
    """The definition, on any device, with gradients."""

    def product(self, layer: "AnalogLayer", inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`Engine`."""
        rows = layer.tile_rows()
        total = self._read_row(layer, inputs, 0, rows[0])
        for index, row in enumerate(rows[1:], start=1):
            total += self._read_row(layer, inputs, index, row)
        return total if bias is None else total + _along_channels(bias, total)

    def _read_row(self, layer: "AnalogLayer", inputs: Tensor, index: int, row: "TileRow") -> Tensor:
        io = layer.rpu_config.forward
        start, stop = layer.grid.rows[index]
        weight, scale = row.weight, row.scale
        generator = layer.reading.generator if layer.reading else None
        vectors = sees_vectors(io)
        part = layer.row_inputs(inputs, start, stop, vectors=vectors)
        if layer.input_range is not None:
            limit = layer.input_range[index]
            part = part.clamp(-limit.detach().abs(), limit.detach().abs())
            if layer.training:
                part = pass_range_gradient(part, limit, layer.rpu_config.pre_post.input_range)
            part, scale = part / limit, scale * limit
        kernel = None if vectors else layer.row_kernel(weight, start, stop)

        def product(values: Tensor) -> Tensor:
            if kernel is None:
                return layer.vector_product(values, weight)
            return layer.kernel_product(values, kernel)

        crossbar = self._crossbar(layer, index, weight, part.ndim) if disturbs_sums(io) else None
        outputs = read_tile(
            part,
            product,
            io,
            vector_dim=layer.vector_dim,
            generator=generator,
            crossbar=crossbar,
        )
        if vectors:
            outputs = layer.merge_groups(outputs)
        return outputs * _along_channels(scale, outputs)

    def _crossbar(self, layer: "AnalogLayer", index: int, weight: Tensor, ndim: int) -> Crossbar:
        io = layer.rpu_config.forward
        span = layer.grid.rows[index]
        groups, columns, _ = weight.shape
        vectors = sees_vectors(io)

        def product(values: Tensor, matrix: Tensor) -> Tensor:
            if vectors:
                return layer.vector_product(values, matrix)
            kernel = layer.row_kernel(matrix.expand(groups, columns, -1), *span)
            if matrix.shape[1] == columns:
                return layer.kernel_product(values, kernel)
            single = kernel.unflatten(0, (groups, columns))[:, 0]
            return layer.kernel_product(values, single).repeat_interleave(columns, 1)

        def per_column(values: Tensor) -> Tensor:
            if vectors and layer.vector_dim == 2:
                return values.reshape(1, groups, columns, *(1,) * (ndim - 3))
            return values.reshape(1, groups * columns, *(1,) * (ndim - 2))

        return Crossbar(weight, product, per_column, self._wires(layer, index, weight))

    def _wires(self, layer: "AnalogLayer", index: int, weight: Tensor) -> Wires | None:
        io = layer.rpu_config.forward
        if layer.training or not is_transient(io) or io.ir_drop == 0:
            return None
        kept = layer.reading.prepared if layer.reading else {}
        if ("wires", index) not in kept:
            kept["wires", index] = Wires.of(weight, layer.grid.cols, layer.rpu_config)
        return cast(Wires, kept["wires", index])


_TORCH = TorchEngine()


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1,) * (like.ndim - 2))
