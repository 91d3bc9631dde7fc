"""What aihwkit's own layers need beside torch to be trained hardware-aware."""

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
    """Let ``DistributedDataParallel`` leave out parameters that no gradient ever reaches.

    Each tile of aihwkit has two: a scalar that leads aihwkit's optimizers to the tile, and with
    input ranges a counter of batches. DDP would wait for their gradients. analogmed's layers have
    none. Call this before the model is wrapped.

    Returns:
        names of the parameters.
    """
    names = {
        name
        for name, value in model.named_parameters()
        if isinstance(value, AnalogContext) or name.endswith(".input_range_update_idx")
    }
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, sorted(names))
    return names


def tiles_of(model: nn.Module) -> list[TorchInferenceTile]:
    """All of aihwkit's tiles in a model."""
    return [tile for _, tiles in aihwkit_tiles(model) for tile in tiles]


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """All tensors of a network's state dict, those of aihwkit's tiles among them.

    To its tensors an aihwkit tile adds a dictionary of objects that only pickle writes: its
    configuration, and some of the same tensors once more.
    """
    return {name: t for name, t in network.state_dict().items() if isinstance(t, Tensor)}


def load_tensors(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put a network that trains where :func:`tensors_of` found it.

    After a step that maps the weights of an aihwkit tile anew, the tile divides gradients by its
    scales, which it keeps out of its state dict for that purpose; so it does here.
    """
    tiles = tiles_of(network)
    network.load_state_dict(tensors, strict=not tiles)
    for tile in tiles:
        if tile.rpu_config.remap.type is not WeightRemapType.NONE:
            tile.set_scales(tile.get_scales().clone())


@contextmanager
def modifier_strength(tiles: list[TorchInferenceTile], strength: float) -> Iterator[None]:
    """Let tiles disturb their weights with a share of the modifier's full size inside."""
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
