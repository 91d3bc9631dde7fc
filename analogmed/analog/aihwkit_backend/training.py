"""Support for hardware-aware training of aihwkit's own layers."""

from collections.abc import Iterator
from contextlib import contextmanager

from aihwkit.optim.context import AnalogContext
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import WeightRemapType
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from analogmed.analog.aihwkit_backend.layers import aihwkit_tiles
from analogmed.analog.tile.modifier import scaled


def ignore_unused_parameters(model: nn.Module) -> set[str]:
    """Exclude parameters that never receive a gradient from ``DistributedDataParallel``.

    Each tile of aihwkit has two: a scalar that refers aihwkit's optimizers to the tile, and, with
    input ranges, a counter of batches. DDP would wait for their gradients. analogmed's layers have
    no such parameters. Must be called before the model is wrapped.

    Returns:
        Names of the parameters.
    """
    names = {
        name
        for name, value in model.named_parameters()
        if isinstance(value, AnalogContext) or name.endswith(".input_range_update_idx")
    }
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, sorted(names))
    return names


def tiles_of(model: nn.Module) -> list[TorchInferenceTile]:
    """Return all aihwkit tiles of a model."""
    return [tile for _, tiles in aihwkit_tiles(model) for tile in tiles]


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return all tensors of a network's state dict, including those of aihwkit's tiles.

    An aihwkit tile also adds a dictionary of objects that only pickle can write: its configuration,
    and copies of some of the same tensors.
    """
    return {name: t for name, t in network.state_dict().items() if isinstance(t, Tensor)}


def load_tensors(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Restore a network in training from the tensors of :func:`tensors_of`.

    After a step that remaps the weights of an aihwkit tile, the tile divides gradients by its
    scales, which it keeps out of its state dict for that purpose; this function restores that.
    """
    tiles = tiles_of(network)
    network.load_state_dict(tensors, strict=not tiles)
    for tile in tiles:
        if tile.rpu_config.remap.type is not WeightRemapType.NONE:
            tile.set_scales(tile.get_scales().clone())


@contextmanager
def modifier_strength(tiles: list[TorchInferenceTile], strength: float) -> Iterator[None]:
    """Scale the weight modifier of tiles to a share of its full magnitude inside the block."""
    configs: list[TorchInferenceRPUConfig] = list(
        {id(tile.rpu_config): tile.rpu_config for tile in tiles}.values()
    )
    modifiers = [config.modifier for config in configs]
    try:
        for config, modifier in zip(configs, modifiers, strict=True):
            config.modifier = scaled(modifier, strength)
        yield
    finally:
        for config, modifier in zip(configs, modifiers, strict=True):
            config.modifier = modifier
