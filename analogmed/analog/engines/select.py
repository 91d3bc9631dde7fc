"""Engine selection: compiled code where the layer requests and supports it, otherwise torch."""

from functools import cache

import torch
from aihwkit.simulator.parameters.io import IOParameters
from torch import Tensor

from analogmed.analog.description.effects import computes, not_computed
from analogmed.analog.engines.direct import DirectEngine
from analogmed.analog.engines.im2col import Im2colEngine
from analogmed.analog.engines.interface import Engine, EngineName, TiledLayer
from analogmed.analog.engines.reference import TorchEngine
from analogmed.analog.engines.training import TrainingEngine
from analogmed.foundation.errors import ConfigError

_COMPILED_FOR = {"cpu": "numba", "cuda": "triton"}  # by type of device


def engine_for(layer: TiledLayer, inputs: Tensor) -> Engine:
    """Return the engine of one product: compiled code where requested and supported, else torch."""
    asked_for = layer.engine in ("auto", _COMPILED_FOR.get(inputs.device.type))
    if not asked_for or not may_compile(layer) or not _is_plain(layer, inputs):
        return _TORCH
    io = layer.io
    by_vectors = not computes("reading", io)
    if torch.is_grad_enabled() or layer.training:
        trains = computes("training", io)
        return (_training_engine(inputs.device.type) if trains else None) or _TORCH
    reading = _vector_engine if by_vectors else _compiled_engine
    return reading(inputs.device.type) or _TORCH


def may_compile(layer: TiledLayer) -> bool:
    """Return whether the layer requests compiled code and its hardware is supported."""
    return layer.engine != "torch" and compiles(layer.io)


def check_engine(name: EngineName, io: IOParameters) -> None:
    """Raise an error for an engine that does not support this hardware or is not installed.

    Raises:
        ConfigError: names the unsupported field, or the package to install.
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


def _check_triton(io: IOParameters) -> None:
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


def compiles(io: IOParameters) -> bool:
    """Return whether compiled code supports these converters."""
    return computes("vectors", io)  # a superset of the other compiled engines


def _is_plain(layer: TiledLayer, inputs: Tensor) -> bool:
    return (
        inputs.dtype is torch.float32 and layer.weight.dtype is torch.float32 and inputs.numel() > 0
    )


@cache
def _compiled_engine(device: str) -> Engine | None:
    """Return the compiled engine; ``None`` if the device has none or no compiler is installed."""
    if device == "cuda":
        try:
            from analogmed.analog.engines.gpu.ops import TritonOps
        except ImportError:
            return None
        return DirectEngine(TritonOps())
    if device != "cpu":
        return None
    try:
        from analogmed.analog.engines.cpu.ops import NumbaOps
    except ImportError:
        return None
    return DirectEngine(NumbaOps())


@cache
def _vector_engine(device: str) -> Engine | None:
    """Return the vector engine, for CPUs only; ``None`` if no compiler is installed."""
    if device != "cpu":
        return None
    try:
        from analogmed.analog.engines.cpu.ops import NumbaOps
    except ImportError:
        return None
    return Im2colEngine(NumbaOps())


@cache
def _training_engine(device: str) -> Engine | None:
    """Return the training engine, for CPUs only; ``None`` if no compiler is installed."""
    if device != "cpu":
        return None
    try:
        from analogmed.analog.engines.cpu.training_ops import NumbaTrainingOps
    except ImportError:
        return None
    return TrainingEngine(NumbaTrainingOps())


_TORCH = TorchEngine()
