"""Conversion of networks to and from aihwkit's analog layers, and chips of aihwkit tiles."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from aihwkit.exceptions import AihwkitException as AihwkitError
from aihwkit.nn import AnalogConv2d, AnalogLinear
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from torch import Tensor, nn

from analogmed.analog import layers
from analogmed.analog.description.support import check_support
from analogmed.analog.devices.reram import with_memory
from analogmed.analog.layers.base import AnalogLayer, analog_layers
from analogmed.analog.tile.noise_stream import NoiseStream
from analogmed.analog.tile.rows import LayerSnapshot, TileRow
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.seeds import derive_seed
from analogmed.network.copy import copy_network
from analogmed.network.seeding import seeded
from analogmed.network.walk import own_attributes, replace_layers


def is_analog(layer: nn.Module) -> bool:
    """Return whether a layer computes on tiles, either analogmed's or aihwkit's."""
    return isinstance(layer, AnalogLayer | AnalogLayerBase)


def to_aihwkit(model: nn.Module) -> nn.Module:
    """Return a copy of an analog model with aihwkit's layers, where its torch tile supports them.

    ``Linear`` without a mask and ungrouped, zero-padded ``Conv2d`` with the even row split become
    aihwkit's layers. All other layers become digital again, as aihwkit would leave them, with
    learned output scales multiplied into their weights.

    Args:
        model: analog model from ``convert``.

    Raises:
        ConfigError: the hardware has an effect that aihwkit's torch tile lacks; names the layer.
    """
    return replace_layers(
        copy_network(model),
        lambda _, layer: isinstance(layer, AnalogLayer),
        _twin_without_analogmed,
    )


def from_aihwkit(model: nn.Module) -> nn.Module:
    """Return a copy of an aihwkit model with ``AnalogLinear`` and ``AnalogConv2d`` of analogmed.

    aihwkit's other layers are left unchanged.

    Raises:
        ConfigError: the column tiles of one row have different input ranges, or analogmed's layers
            do not support the layer's configuration.
    """
    return replace_layers(
        copy_network(model),
        lambda _, layer: type(layer) in (AnalogConv2d, AnalogLinear),
        _own_twin,
    )


def set_ranges_like(model: nn.Module, own: nn.Module) -> nn.Module:
    """Set the input ranges of aihwkit's layers to those of their copies from ``from_aihwkit``.

    Returns:
        The given ``model``, with ranges changed in place.
    """
    for name, layer in model.named_modules():
        twin = own.get_submodule(name) if isinstance(layer, AnalogConv2d | AnalogLinear) else None
        if isinstance(twin, AnalogLayer) and twin.input_range is not None:
            _set_ranges(layer, twin.input_range.detach())
            layer.calibrated = twin.calibrated
    return model


def aihwkit_tiles(model: nn.Module) -> Iterator[tuple[str, list[TorchInferenceTile]]]:
    """Yield the name and the tiles of each aihwkit layer of a model."""
    for name, layer in model.named_modules():
        if isinstance(layer, AnalogLayerBase):
            tiles = list(layer.analog_tiles())
            if tiles:
                yield name, tiles


def configs_of(model: nn.Module) -> Iterator[TorchInferenceRPUConfig]:
    """Yield the hardware configuration of each analog layer, of analogmed or of aihwkit."""
    for layer in analog_layers(model).values():
        yield layer.rpu_config
    for _, tiles in aihwkit_tiles(model):
        yield tiles[0].rpu_config


class AihwkitTiles:
    """Tiles of one aihwkit layer as programmed onto a chip.

    Args:
        tiles: tiles of aihwkit; their weights are the programming target.
        seed: random seed of the programming noise.
    """

    def __init__(self, tiles: list[TorchInferenceTile], seed: int) -> None:
        self._tiles = tiles
        self._programmed = []
        for index, tile in enumerate(tiles):
            target = tile.tile.get_weights()
            with seeded(derive_seed(seed, index)), _remembering(tile):
                tile.program_weights(from_reference=False)
            self._programmed.append(_TileState.of(tile))
            _reset(tile, target)

    def read(self, t_inference_s: float, seed: int) -> LayerSnapshot:
        """Age the tiles and read them once."""
        rows = []
        for index, (tile, state) in enumerate(zip(self._tiles, self._programmed, strict=True)):
            target = tile.tile.get_weights()
            state.restore(tile)
            with seeded(derive_seed(seed, index)), _remembering(tile):
                tile.drift_weights(t_inference_s)
            rows.append(TileRow(tile.tile.get_weights(), tile.alpha.clone()))
            _reset(tile, target)
        return LayerSnapshot(tuple(rows), NoiseStream())

    @contextmanager
    def use_snapshot(self, reading: LayerSnapshot) -> Iterator[None]:
        """Compute with a snapshot inside the block; its generator seeds the output noise."""
        targets = [tile.tile.get_weights() for tile in self._tiles]
        for tile, row in zip(self._tiles, reading.rows, strict=True):
            tile.tile.set_weights(row.weight)
            tile.alpha = row.scale
        seed = int(torch.randint(2**62, (1,), generator=reading.generator))
        try:
            with seeded(seed):
                yield
        finally:
            for tile, target in zip(self._tiles, targets, strict=True):
                _reset(tile, target)


@contextmanager
def _remembering(tile: TorchInferenceTile) -> Iterator[None]:
    """Use a noise model whose devices keep their programming error inside the block."""
    model = tile.rpu_config.noise_model
    tile.rpu_config.noise_model = with_memory(model)
    try:
        yield
    finally:
        tile.rpu_config.noise_model = model


@dataclass(frozen=True)
class _TileState:
    """State of a programmed tile that aihwkit stores."""

    programmed: Tensor
    drift: list[Tensor]
    baseline: Tensor | None
    readout: Tensor | None

    @classmethod
    def of(cls, tile: TorchInferenceTile) -> "_TileState":
        return cls(
            tile.programmed_weights,
            tile.drift_noise_parameters,
            tile.drift_baseline,
            tile.drift_readout_tensor,
        )

    def restore(self, tile: TorchInferenceTile) -> None:
        tile.programmed_weights, tile.drift_noise_parameters = self.programmed, self.drift
        tile.drift_baseline, tile.drift_readout_tensor = self.baseline, self.readout


def _reset(tile: TorchInferenceTile, target: Tensor) -> None:
    """Remove the chip's state; otherwise aihwkit would next program stale reference weights."""
    tile.tile.set_weights(target)
    tile.alpha = tile.alpha.new_ones(1)
    tile.reference_combined_weights = None
    tile.programmed_weights = None


def _twin_without_analogmed(name: str, layer: nn.Module) -> nn.Module:
    assert isinstance(layer, AnalogLayer)
    if layer.copies > 1:
        raise ConfigError(
            f"hardware.row_copies: aihwkit's own layers store each weight once, layer '{name}' "
            f"{layer.copies} times; expected 1, or another backend than 'aihwkit'"
        )
    try:
        return _aihwkit_twin(layer) or _digital_twin(layer)
    except AihwkitError as error:
        raise ConfigError(
            f"layer '{name}': aihwkit's torch tile does not compute this hardware: {error}"
        ) from error


def _aihwkit_twin(layer: AnalogLayer) -> nn.Module | None:
    if layer.row_split != "even" or isinstance(layer, layers.AnalogMaskedLinear):
        return None
    config, bias = copy.deepcopy(layer.rpu_config), layer.bias is not None
    if isinstance(layer, layers.AnalogLinear):
        twin = AnalogLinear(layer.in_features, layer.out_features, bias, config)
    elif isinstance(layer, layers.AnalogConv2d) and _aihwkit_convolves(layer):
        twin = AnalogConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            bias=bias,
            rpu_config=config,
        )
    else:
        return None
    twin.set_weights(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())
    if layer.input_range is not None:
        _set_ranges(twin, layer.input_range.detach())
        _tie_ranges(twin, len(layer.grid.cols))
        twin.calibrated = layer.calibrated
    if layer.out_scale is not None:
        scales = _scales_of_tiles(layer)
        for tile, scale in zip(twin.analog_tiles(), scales, strict=True):
            tile.set_learned_out_scales(scale)
    return twin.train(layer.training)


def _set_ranges(layer: AnalogConv2d | AnalogLinear, ranges: Tensor) -> None:
    """Set the range of each row of tiles, and prevent aihwkit from setting it from data."""
    tiles = list(layer.analog_tiles())
    for index, tile in enumerate(tiles):
        tile.input_range.data[:] = ranges[index * len(ranges) // len(tiles)]
        tile.input_range_update_idx.data[:] = tile.rpu_config.pre_post.input_range.init_from_data


def _tie_ranges(layer: AnalogConv2d | AnalogLinear, columns: int) -> None:
    """Share one converter and learned range, with the sum of gradients, per row of column tiles."""
    tiles = list(layer.analog_tiles())
    for index, tile in enumerate(tiles):
        if isinstance(tile.input_range, nn.Parameter):
            tile.input_range = tiles[index - index % columns].input_range


def _scales_of_tiles(layer: AnalogLayer) -> list[Tensor]:
    """Return the learned scales of an ungrouped layer, one view per tile in aihwkit's order."""
    assert layer.out_scale is not None
    cols = layer.grid.cols
    columnwise = layer.rpu_config.mapping.out_scaling_columnwise
    bounds = cols if columnwise else [(tile, tile + 1) for tile in range(len(cols))]
    return [row[start:stop] for row in layer.out_scale.detach()[:, 0] for start, stop in bounds]


def _aihwkit_convolves(layer: layers.AnalogConv2d) -> bool:
    return (
        layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    )


def _digital_twin(layer: AnalogLayer) -> nn.Module:
    if layer.out_scale is not None:
        with torch.no_grad():
            layer.set_weight_matrix(
                torch.cat([r.weight * r.scale[:, :, None] for r in layer.reference_rows()], 2)
            )
    base: Any = next(c for c in type(layer).__mro__ if not issubclass(c, AnalogLayer))
    twin: nn.Module = object.__new__(base)
    twin.__dict__.update(own_attributes(layer))
    for name in (
        "rpu_config",
        "row_split",
        "engine",
        "grid",
        "reading",
        "disturbance",
        "calibrated",
        *_OWN_TENSORS,
    ):
        twin.__dict__.pop(name, None)
    for name in _OWN_TENSORS:
        twin._parameters.pop(name, None)
        twin._buffers.pop(name, None)
    return twin


_OWN_TENSORS = ("input_range", "out_scale")


def _own_twin(name: str, layer: nn.Module) -> AnalogLayer:
    assert isinstance(layer, AnalogConv2d | AnalogLinear)
    tiles = list(layer.analog_tiles())
    try:
        check_support(tiles[0].rpu_config)
    except ConfigError as error:
        raise ConfigError(f"layer '{name}': {error}") from error
    learned = [tile.out_scaling_alpha for tile in tiles]
    learned = [None if scale is None else scale.detach().clone() for scale in learned]
    for tile in tiles:
        tile.set_learned_out_scales(1.0)  # get_weights would multiply by them; this is a copy
    weight, bias = layer.get_weights()
    own: layers.AnalogLinear | layers.AnalogConv2d
    if isinstance(layer, AnalogLinear):
        own = layers.AnalogLinear(layer.in_features, layer.out_features, bias is not None)
    else:
        own = layers.AnalogConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            bias=bias is not None,
        )
    with torch.no_grad():
        own.weight.copy_(weight.reshape(own.weight.shape))
        if own.bias is not None:
            own.bias.copy_(bias)
    own.to_tiles(tiles[0].rpu_config, "even")
    _copy_ranges(name, own, tiles)
    own.calibrated = getattr(layer, "calibrated", False)
    if own.out_scale is not None:
        for target, scale in zip(_scales_of_tiles(own), learned, strict=True):
            target.copy_(scale)
    return own.train(layer.training)


def _copy_ranges(name: str, own: AnalogLayer, tiles: list[TorchInferenceTile]) -> None:
    if own.input_range is None:
        return
    columns = len(own.grid.cols)
    found = torch.stack([tile.input_range.detach().reshape(()) for tile in tiles])
    by_row = found.reshape(-1, columns)
    if not torch.equal(by_row, by_row[:, :1].expand_as(by_row)):
        raise ConfigError(
            f"layer '{name}': its column tiles have different input ranges "
            f"({by_row.tolist()}); analogmed keeps one for each row of tiles"
        )
    own.input_range.data.copy_(by_row[:, 0])
