"""Sizes of the operations of a network: in parameters, or in tiles."""

from collections.abc import Sequence
from typing import TypeAlias, get_args

from torch import nn

from analogmed.foundation.settings.checks import require_choice
from analogmed.models import Genotype
from analogmed.models.subnet import Subnet
from analogmed.network.layers.matrix import MAPPED, TRANSPOSED
from analogmed.search.space.extents import Extent, LayerExtent, Section, SizeUnit
from analogmed.search.space.unions import Operation

_Sections: TypeAlias = dict[Section, int]


def operation_sizes(
    network: Subnet, unit: SizeUnit, *, tile_size: int = 256, image_channels: Sequence[int] = ()
) -> dict[Operation, Extent]:
    """Return the size of the block of each level, with its upsampling partner and joining block.

    Args:
        network: network of any genotype.
        unit: ``"parameters"`` or ``"tiles"``.
        tile_size: number of rows and columns of a tile.
        image_channels: image channels of each task that shares the blocks; the first level has
            separate inputs for each. By default those of the network.

    Raises:
        ConfigError: another unit.
    """
    unit = require_choice("size", unit, get_args(SizeUnit))
    levels = network.genotype.levels[: network.genotype.depth]
    own = next(network.levels.parameters()).shape[1]  # levels without weights pass the image on
    images: _Sections = {
        (-1, task): channels for task, channels in enumerate(image_channels or (own,))
    }
    inputs = _inputs(network.genotype, images)
    found: dict[Operation, dict[str, LayerExtent]] = {
        (number, level.block): {} for number, level in enumerate(levels)
    }
    for name, layer in network.levels.named_modules():
        if any(layer.children()) or next(layer.parameters(), None) is None:
            continue
        level, place = name.split(".", 1)
        number, part = int(level), place.split(".")[0]
        sections = inputs.pop((number, part), None)  # of the first layer with weights
        found[number, levels[number].block][place] = _extent(layer, sections)
    return {operation: Extent(layers, unit, tile_size) for operation, layers in found.items()}


def _extent(layer: nn.Module, sections: _Sections | None) -> LayerExtent:
    parameters = list(layer.parameters())
    if not isinstance(layer, MAPPED):  # a norm
        return LayerExtent({}, parameters[0].numel(), per_output=len(parameters), is_analog=False)
    inputs, outputs = (
        (layer.in_features, layer.out_features)
        if isinstance(layer, nn.Linear)
        else (layer.in_channels, layer.out_channels)
    )
    return LayerExtent(
        inputs={(): inputs} if sections is None else sections,
        outputs=outputs,
        kernel=() if isinstance(layer, nn.Linear) else tuple(layer.kernel_size),
        is_transposed=isinstance(layer, TRANSPOSED),
        per_output=len(parameters) - 1,
        is_analog=not getattr(layer, "stays_digital", False),
    )


def _inputs(genotype: Genotype, images: _Sections) -> dict[tuple[int, str], _Sections]:
    """Return the input channels of the first layer of each part, by level and part.

    Channels that a level passes on keep their section; in a block that joins skip and upsampled
    channels, the latter have a separate section, as in the supernetwork.
    """
    levels = genotype.levels[: genotype.depth]
    inputs: dict[tuple[int, str], _Sections] = {}
    given, downs = images, list[_Sections]()
    for number, level in enumerate(levels):
        inputs[number, "down"] = given
        given = {(): level.channels} if level.channels else given
        downs.append(given)
    out = downs[-1]
    for number in reversed(range(len(levels) - 1)):
        own: _Sections | None = {(): levels[number].channels} if levels[number].channels else None
        inputs[number, "up"] = out
        behind = {(number, *section): channels for section, channels in (own or out).items()}
        inputs[number, "join"] = {**downs[number], **behind}
        out = own or inputs[number, "join"]
    return inputs
