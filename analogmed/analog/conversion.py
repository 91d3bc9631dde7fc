"""Conversion of a torch network to an analog one."""

import copy
import warnings
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, get_args

import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import nn

from analogmed.analog import layers
from analogmed.analog.aihwkit_backend.layers import configs_of, is_analog, to_aihwkit
from analogmed.analog.description.aihwkit_config import description_of
from analogmed.analog.description.hardware import Backend, Hardware
from analogmed.analog.description.resolve import as_rpu_config
from analogmed.analog.description.support import check_support
from analogmed.analog.digital_layers import left_digital
from analogmed.analog.engines.select import EngineName, check_engine
from analogmed.analog.layers.base import AnalogLayer, analog_layers
from analogmed.foundation.errors import ConfigError, CoverageError, NonFiniteError
from analogmed.foundation.settings.checks import require_choice
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.network.batches import checked_network
from analogmed.network.copy import copy_network
from analogmed.network.layers.masked import MaskedLinear
from analogmed.network.products import unregistered_layers
from analogmed.network.recurrent import unroll_recurrent
from analogmed.network.selection import (
    ASKED_FOR,
    STAYS_DIGITAL,
    checked_patterns,
    digital_reason,
    mapped_base,
    multiplies_weight,
    refuse_unknown,
)
from analogmed.network.tiling import RowSplit
from analogmed.network.walk import own_attributes, replace_layers

MANY_TILES = 100_000
"""Number of tiles above which ``convert`` warns, since each tile computes a separate MVM."""

_ANALOG: dict[type[nn.Module], type[AnalogLayer]] = {
    MaskedLinear: layers.AnalogMaskedLinear,
    nn.Linear: layers.AnalogLinear,
    nn.Conv1d: layers.AnalogConv1d,
    nn.Conv2d: layers.AnalogConv2d,
    nn.Conv3d: layers.AnalogConv3d,
    nn.ConvTranspose1d: layers.AnalogConvTranspose1d,
    nn.ConvTranspose2d: layers.AnalogConvTranspose2d,
    nn.ConvTranspose3d: layers.AnalogConvTranspose3d,
}


@checks_arguments
def convert(
    model: nn.Module,
    rpu_config: TorchInferenceRPUConfig | Hardware | Mapping[str, Any] | str = "pcm",
    *,
    digital_layers: Iterable[str] = (),
    row_split: RowSplit = "even",
    backend: Backend = "auto",
) -> nn.Module:
    """Return an analog copy of a network; the original is left unchanged.

    Convolutions and transposed convolutions (1D to 3D, also grouped) and Linear layers are mapped
    onto tiles. So are their subclasses that override no method involved in the product.
    ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` and their cells become Linear layers that are called once
    per step.
    :func:`analogmed.coverage` lists the layers that stay digital, with the reason. Warns of layers
    that torch has not registered.

    Args:
        model: plain torch network.
        rpu_config: name of a preset; mapping of arguments, as ``{"preset": "pcm", "tile_size":
            256}``; a :class:`Hardware`; or a configuration from
            :func:`analogmed.create_rpu_config`. The model keeps a copy.
        digital_layers: names (or patterns, ``"head*"``) of layers that stay digital, or of blocks
            whose layers all stay digital. Layers whose attribute ``stays_digital`` is true stay
            digital in any case.
        row_split: ``"even"`` cuts a layer's rows as aihwkit does; ``"channels"`` keeps each input
            channel on one tile where it fits.
        backend: implementation of the tile computations. ``"torch"`` is the reference, on any
            device. ``"numba"`` is compiled code for CPUs in float32, several times as fast.
            ``"triton"`` is compiled code for GPUs, without gradients. Whatever the compiled code
            does not support, such as another device or data type, falls back to torch without a
            warning: a model may be calibrated on a CPU and evaluated on a GPU. ``"auto"`` is numba
            on CPUs and triton on GPUs where they support the hardware, otherwise torch.
            ``"aihwkit"`` uses aihwkit's own layers, which leave more layers digital. On a GPU, the
            MVMs of tiles are computed without TF32.

    Returns:
        Analog network, in the same training or evaluation mode.

    Raises:
        ConfigError: the preset is unknown, a field of the configuration is not supported,
            ``digital_layers`` matches nothing, or the model is already analog.
        CoverageError: no layer of the model can be mapped onto tiles; the message lists reasons.
        NonFiniteError: a weight or bias contains NaN or Inf.
    """
    for what, choice, choices in (
        ("backend", backend, Backend),
        ("row_split", row_split, RowSplit),
    ):
        require_choice(what, choice, get_args(choices))
    check_support(rpu_config := as_rpu_config(rpu_config))
    digital = checked_patterns("digital_layers", digital_layers)
    _check_model(model)
    engine: EngineName = "auto" if backend == "aihwkit" else backend
    check_engine(engine, rpu_config.forward)
    analog = _replace_layers(
        copy_network(model), copy.deepcopy(rpu_config), digital, row_split, engine
    )
    if not any(map(is_analog, analog.modules())):
        raise CoverageError(
            f"{type(model).__name__} has no layer that can be put on a tile (Linear, Conv1d to "
            f"Conv3d, ConvTranspose1d to 3d); nothing of it would be analog{_reasons(analog)}"
        )
    _warn_of_many_tiles(analog, rpu_config)
    return to_aihwkit(analog) if backend == "aihwkit" else analog


def hardware_of(analog: nn.Module) -> Hardware | None:
    """Return the description of the hardware that a network was converted for.

    ``None`` if it was converted for a configuration that was changed after ``create_rpu_config``,
    or made without it.
    """
    return next((description_of(config) for config in configs_of(analog)), None)


def conversion_of(analog: nn.Module) -> dict[str, Any]:
    """Return the arguments of :func:`convert`, except the hardware, that are not its defaults."""
    layers = [layer for layer in analog.modules() if is_analog(layer)]
    own = next((layer for layer in layers if isinstance(layer, AnalogLayer)), None)
    given = {
        "digital_layers": list(left_digital(analog)),
        "row_split": "even" if own is None else own.row_split,
        "backend": "aihwkit" if own is None else own.engine,
    }
    return {name: value for name, value in given.items() if value not in ([], "even", "auto")}


def _warn_of_many_tiles(analog: nn.Module, rpu_config: TorchInferenceRPUConfig) -> None:
    grids = [layer.grid for layer in analog_layers(analog).values()]
    tiles = sum(len(grid.rows) * len(grid.cols) for grid in grids)
    if tiles > MANY_TILES:
        size = rpu_config.mapping.max_input_size, rpu_config.mapping.max_output_size
        warnings.warn(
            f"hardware.tile_size: {size[0]} x {size[1]} cuts {type(analog).__name__} into {tiles} "
            f"tiles; expected at most {MANY_TILES}. An image takes minutes; set larger tiles.",
            stacklevel=4,
        )


def _replace_layers(
    model: nn.Module,
    rpu_config: TorchInferenceRPUConfig,
    digital: tuple[str, ...],
    row_split: RowSplit,
    engine: EngineName,
) -> nn.Module:
    _mark_digital(model, digital)
    model = unroll_recurrent(model)
    _mark_digital(model, digital)  # Linear layers of the recurrent ones
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    refuse_unknown("digital_layers", digital, names)
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            layer.activation_relu_or_gelu = 0  # disable the fused path, which bypasses the tiles
    return replace_layers(
        model,
        lambda name, layer: digital_reason(name, layer) is None,
        lambda name, layer: _analog_twin(name, layer, rpu_config, row_split, engine),
    )


def _mark_digital(model: nn.Module, digital: tuple[str, ...]) -> None:
    for name, layer in model.named_modules(remove_duplicate=False):
        if multiplies_weight(layer) and digital_reason(name, layer, digital) == ASKED_FOR:
            setattr(layer, STAYS_DIGITAL, True)


def _analog_twin(
    name: str,
    layer: nn.Module,
    rpu_config: TorchInferenceRPUConfig,
    row_split: RowSplit,
    engine: EngineName,
) -> AnalogLayer:
    for part in ("weight", "bias"):
        values = getattr(layer, part)
        if values is not None and not torch.isfinite(values).all():
            raise NonFiniteError(
                f"layer '{name}': its {part} holds NaN or Inf; nothing was converted"
            )
    base = mapped_base(layer)
    assert base is not None
    analog_class = _ANALOG[base]
    twin = analog_class.__new__(analog_class)
    twin.__dict__.update(own_attributes(layer))
    twin.to_tiles(rpu_config, row_split, engine)
    return twin


def _reasons(model: nn.Module) -> str:
    """Return the reasons why the first layers that multiply a weight are digital."""
    digital = ((n, digital_reason(n, m)) for n, m in model.named_modules() if multiplies_weight(m))
    return "".join(f"; {name or 'the model'}: {reason}" for name, reason in islice(digital, 3))


def _check_model(model: nn.Module) -> None:
    checked_network(model)
    for name, layer in model.named_modules(remove_duplicate=False):
        if is_analog(layer):
            raise ConfigError(
                f"layer '{name}' is analog already; convert the digital network, once for each "
                "hardware"
            )
    unregistered = unregistered_layers(model)
    if unregistered:
        listed = ", ".join(f"{place} ({kind})" for place, kind in unregistered.items())
        warnings.warn(
            f"{type(model).__name__}: torch does not register the layers in plain containers, so "
            f"these stay digital: {listed}. Put them in an nn.ModuleList or nn.ModuleDict.",
            stacklevel=4,
        )
