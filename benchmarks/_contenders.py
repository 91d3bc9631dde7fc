"""Contenders by name: forward passes and training steps of a workload."""

import copy
from collections.abc import Callable

import torch
from _simulators import (
    AIHWKIT_LAYERS,
    SkippedError,
    aihwkit_compiled,
    aihwkit_torch,
    lightning,
)
from _workloads import Setup
from aihwkit.optim import AnalogOptimizer
from monai.losses import DiceCELoss
from torch import nn

import analogmed as am
from analogmed.analog.layers.base import analog_layers, ranged_layers
from analogmed.foundation.errors import ConfigError

DAY_S = 86_400.0
REFERENCE = "digital"
SLOW = frozenset({"aihwkit", "aihwkit-compiled", "lightning"})
"""Contenders with fewer rounds and a smaller batch, compared with a digital run of that batch."""

Run = Callable[[], object]


def network(name: str, setup: Setup) -> nn.Module:
    """Return a contender's network, with the weights and input ranges of the set-up.

    Raises:
        SkippedError: the contender cannot run on this machine; the message gives the reason.
    """
    model = _NETWORKS[name](setup)
    share = share_on_tiles(model, setup)
    if name not in _DIGITAL and share < 0.5:
        raise SkippedError(f"it puts {share:.0%} of the weights on tiles; the rest stays digital")
    return model


def forward_pass(name: str, setup: Setup) -> tuple[Run, nn.Module]:
    """Return one evaluation of the images on a chip, one day after programming, and its network."""
    model, images = network(name, setup).eval(), _laid_out(name, setup)
    if analog_layers(model):
        reading = am.Chip(model, seed=0).at(DAY_S)
        return lambda: reading(images), model
    for layer in model.modules():
        if isinstance(layer, AIHWKIT_LAYERS):
            layer.program_analog_weights()
            layer.drift_analog_weights(DAY_S)
    return lambda: _without_gradients(model, images), model


def training_step(name: str, setup: Setup) -> tuple[Run, nn.Module]:
    """Return a training step with noise on weights and outputs, and its network.

    A step consists of the forward pass, Dice and cross-entropy loss, backward pass and AdamW.
    """
    model, images = network(name, setup).train(), _laid_out(name, setup)
    target = (images[:, :1] > 0.5).float()
    loss_of = DiceCELoss(sigmoid=True)
    optimizer = _optimizer(name, model)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(images), target).backward()
        optimizer.step()

    return step, model


def share_on_tiles(model: nn.Module, setup: Setup) -> float:
    """Return the share of the weights of convolutions and linear layers that are on tiles."""
    weights = {
        name: layer.weight.numel() for name, layer in analog_layers(setup.calibrated).items()
    }
    on_tiles = [size for name, size in weights.items() if _is_on_tiles(model.get_submodule(name))]
    return sum(on_tiles) / sum(weights.values())


def _is_on_tiles(layer: nn.Module) -> bool:
    return not type(layer).__module__.startswith("torch.nn.")


def _optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if name.startswith("aihwkit"):
        return AnalogOptimizer(torch.optim.AdamW, model.parameters(), lr=1e-4)
    return torch.optim.AdamW(trained, lr=1e-4)


@torch.no_grad()
def _without_gradients(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images)


def _laid_out(name: str, setup: Setup) -> torch.Tensor:
    if name == "digital-channels-last" or name.startswith("auto"):
        return setup.images.contiguous(memory_format=_last(setup))
    return setup.images


def _last(setup: Setup) -> torch.memory_format:
    return torch.channels_last if setup.images.ndim == 4 else torch.channels_last_3d


def _own(backend: str) -> Callable[[Setup], nn.Module]:
    def convert(setup: Setup) -> nn.Module:
        device = setup.images.device.type
        if backend == "numba" and device != "cpu":
            raise SkippedError("the compiled engine for CPUs")
        if backend == "triton" and device != "cuda":
            raise SkippedError("computes on a GPU: --device cuda")
        try:
            return setup.convert(backend)
        except ConfigError as error:
            raise SkippedError(str(error)) from error

    return convert


def _with_ranges_from_data(setup: Setup) -> nn.Module:
    """Return a network as analogmed trains it: input ranges are calibrated, not learned."""
    model = _own("auto")(setup)
    for layer in ranged_layers(model).values():
        assert layer.input_range is not None
        layer.input_range.requires_grad_(False)
    return model


_NETWORKS: dict[str, Callable[[Setup], nn.Module]] = {
    REFERENCE: lambda setup: copy.deepcopy(setup.digital),
    "digital-channels-last": lambda setup: copy.deepcopy(setup.digital).to(  # type: ignore[call-overload]
        memory_format=_last(setup)
    ),
    "auto": _with_ranges_from_data,
    "auto-learned-ranges": _own("auto"),
    "numba": _own("numba"),
    "triton": _own("triton"),
    "torch": _own("torch"),
    "aihwkit": aihwkit_torch,
    "aihwkit-compiled": aihwkit_compiled,
    "lightning": lightning,
}
_DIGITAL = frozenset({REFERENCE, "digital-channels-last"})
FORWARD_CONTENDERS = tuple(name for name in _NETWORKS if not name.startswith("auto"))
TRAINING_CONTENDERS = tuple(name for name in _NETWORKS if name not in {"numba", "triton"})
