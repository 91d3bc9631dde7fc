"""Latency of each operation of each level: on tiles of a profile, or measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.hardware import (
    LookupTable,
    Profile,
    describe_machine,
    estimate,
    map_tiles,
    measure_operations,
    read_table,
    record,
)
from analogmed.hardware.profiles import Level
from analogmed.models import Genotype
from analogmed.models.blocks import make_block, make_partner
from analogmed.models.genotype import BLOCKS
from analogmed.search.space.space import Space

_FLOOR = 0.01
_REPETITIONS = 10


@dataclass(frozen=True)
class Latencies:
    """Latencies of the operations of a space, each at its largest: widest, with the largest kernel.

    Attributes:
        seconds: latency for one image in s, by level (counted from the image) and block. It
            includes the block, its upsampling partner and the block that joins it with the skip.
    """

    seconds: Mapping[tuple[int, str], float]

    def __post_init__(self) -> None:
        if not self.slowest_s > 0:
            raise ConfigError("no operation of the space takes any time: latencies say nothing")

    @property
    def slowest_s(self) -> float:
        """Latency of the path with the slowest operation of each level, in s."""
        return sum(max(self._of_level(level)) for level in self.levels)

    @property
    def levels(self) -> range:
        """Numbers of the levels."""
        return range(1 + max(level for level, _ in self.seconds))

    def floored(self, level: int, block: str) -> float:
        """Return the latency of an operation in s, at least a hundredth of the median of its level.

        Without this limit, an operation without latency would have an infinite score per second.
        """
        times_s = self._of_level(level)
        floor_s = _FLOOR * median(times_s) or _FLOOR * self.slowest_s
        return max(self.seconds[level, block], floor_s)

    def share(self, networks: Iterable[Genotype]) -> float:
        """Return ``sum over levels of max over networks``, in units of the slowest path.

        Args:
            networks: subnetworks of a step.
        """
        slowest: dict[int, float] = {}
        for genotype in networks:
            for level, gene in enumerate(genotype.levels[: genotype.depth]):
                slowest[level] = max(slowest.get(level, 0.0), self.seconds[level, gene.block])
        return sum(slowest.values()) / self.slowest_s

    def _of_level(self, level: int) -> list[float]:
        return [time_s for (number, _), time_s in self.seconds.items() if number == level]


TimeOf = Callable[[nn.Module, tuple[int, ...]], float]
"""Function that returns the latency in s of a module on an input of shape (1, C, *spatial)."""


def latencies(space: Space, shape: tuple[int, ...], time_of: TimeOf) -> Latencies:
    """Return the latencies of all operations of a space.

    Args:
        space: search space of the networks.
        shape: shape of an image, (C, *window).
        time_of: function that returns the latency of a module.
    """
    found = {}
    for level in range(max(space.depths)):
        for block in space.genes[f"block_{level}"]:
            parts = _parts(space, shape, level, str(block))
            found[level, str(block)] = sum(time_of(module, size) for module, size in parts)
    return Latencies(found)


def of_profile(profile: Profile, level: Level = "mvm_only") -> TimeOf:
    """Return a latency estimator for tiles of a profile; modules without weights take no time.

    Args:
        profile: profile of the tile type.
        level: accounting level of the profile.
    """

    def time_of(module: nn.Module, shape: tuple[int, ...]) -> float:
        if not any(True for _ in module.parameters()):
            return 0.0
        mapped = map_tiles(module, shape, profile.tile_size, row_split="even")
        return estimate(mapped, profile, level).latency_s

    return time_of


def of_table(table: LookupTable) -> TimeOf:
    """Return a latency estimator for a digital processor, based on a look-up table.

    Raises:
        DataError: from the function: the table lacks an operation.
    """
    return lambda module, shape: table.predict_s(record(module, shape).counts)


def table_for(space: Space, shape: tuple[int, ...], folder: Path) -> LookupTable:
    """Return the table of a folder; if there is none, measure this machine and write it there.

    Args:
        space: search space whose operations are measured.
        shape: shape of an image, (C, *window).
        folder: folder of ``operations.csv`` and ``provenance.yaml``.

    Raises:
        DataError: the table is damaged.
    """
    if not (folder / "operations.csv").exists():
        recorded = [
            record(module, size)
            for level in range(max(space.depths))
            for block in space.genes[f"block_{level}"]
            for module, size in _parts(space, shape, level, str(block))
        ]
        machine = describe_machine() | {"repetitions": _REPETITIONS, "input": list(shape)}
        timings = measure_operations(recorded, repetitions=_REPETITIONS)
        LookupTable(timings, machine).write(folder)
    return read_table(folder)


@torch.random.fork_rng(devices=())
def _made(
    space: Space, level: int, block: str, channels: tuple[int, int, int]
) -> list[tuple[nn.Module, int, int]]:
    """Return the modules of an operation, each with its input channels and resolution level."""
    given, own, inner = channels
    shape = {"kernel": max(space.kernels), "spatial_dims": space.spatial_dims}
    passes = BLOCKS[block].kind == "identity"
    modules = [(make_block(block, given, own, **shape), given, level)]
    if level == max(space.depths) - 1 or space.purpose == "classification":
        return modules
    up = make_partner(block, inner, own, spatial_dims=space.spatial_dims)
    joined = given + inner if passes else 2 * own
    return [
        *modules,
        (up, inner, level + 1),
        (make_block(block, joined, own, **shape), joined, level),
    ]


def _parts(
    space: Space, shape: tuple[int, ...], level: int, block: str
) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
    """Yield the modules of an operation with their input shapes, between levels of full width."""
    width, growth = max(space.widths), max(space.growths)
    given = width * growth ** (level - 1) if level else shape[0]
    channels = (given, width * growth**level, width * growth ** (level + 1))
    for module, in_channels, resolution in _made(space, level, block, channels):
        if not isinstance(module, nn.Identity):
            yield module, (1, in_channels, *(side // 2**resolution for side in shape[1:]))
