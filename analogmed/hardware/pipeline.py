"""Cost of a network on tiles, for one slice and for a stack of consecutive slices.

A slice is one input of the network: an image, or a volume in 3D. Its layers run in sequence; each
starts when the previous one has finished the whole feature map. In a pipelined stack, the next
slice enters a layer as soon as the layer is free.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analogmed.foundation.settings.checks import require_at_least_one
from analogmed.hardware.placement import Placement
from analogmed.hardware.profiles import Level, Profile
from analogmed.hardware.tile_map import TileMap
from analogmed.tables.hardware import SKIP_BUFFERS

NUMBER_BYTES = 1
"""Bytes per feature value: features are 8-bit on all chips of the profiles."""


@dataclass(frozen=True)
class Stage:
    """One call of a layer for one slice.

    Attributes:
        layer: name of the layer.
        start_s: start of the call in s, relative to the start of the slice.
        time_s: duration in s; 0 for a digital layer whose processor is unknown.
        energy_j: dynamic energy in J.
        tiles: tiles of the layer, including replicas; 0 for a digital layer.
        replicas: number of replicas of the weights.
        bound_by: component that limits the time: ``mvm``, ``io``, ``digital`` (the tile's digital
            unit), ``measured`` (whole layer), ``processor`` (a digital layer) or ``unknown``.
    """

    layer: str
    start_s: float
    time_s: float
    energy_j: float
    tiles: int
    replicas: int
    bound_by: str


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a network on the tiles of a profile; not a measurement.

    Attributes:
        profile: tile type.
        level: accounting level, ``mvm_only`` or ``measured_layer``.
        stages: layer calls, in order.
        tiles: number of tiles, including replicas, after packing.
        interval_s: initiation interval in s: time between consecutive slices.
        macs: MACs on tiles for one slice.
        mapped: network on tiles.
        placement: blocks of one replica.
    """

    profile: Profile
    level: Level
    stages: tuple[Stage, ...]
    tiles: int
    interval_s: float
    macs: int
    mapped: TileMap
    placement: Placement

    @property
    def latency_s(self) -> float:
        """Latency of one slice in s: the sum over its layers."""
        return sum(stage.time_s for stage in self.stages)

    @property
    def throughput_per_s(self) -> float:
        """Number of slices per second once the pipeline is full."""
        return 1 / self.interval_s

    @property
    def gain(self) -> float:
        """Ratio of the throughput with pipelining to that without."""
        return self.latency_s / self.interval_s

    def stack_s(self, slices: int, *, pipelined: bool = True) -> float:
        """Return the time of a stack in s: ``L + (N - 1) * II`` pipelined, ``N * L`` otherwise.

        Raises:
            ConfigError: there is less than one slice.
        """
        require_at_least_one("slices", slices)
        if pipelined:
            return self.latency_s + (slices - 1) * self.interval_s
        return slices * self.latency_s

    def stack_j(self, slices: int, *, pipelined: bool = True) -> float:
        """Return the energy of a stack in J: its MVMs, and the static power of the tiles."""
        static_w = 1e-3 * (self.profile.static_mw or 0.0) * self.tiles
        dynamic_j = sum(stage.energy_j for stage in self.stages)
        return slices * dynamic_j + static_w * self.stack_s(slices, pipelined=pipelined)

    @cached_property
    def untimed_layers(self) -> tuple[str, ...]:
        """Digital layers that are not included in the time."""
        return self._missing(self.profile.digital_gmac_per_s)

    @cached_property
    def unpowered_layers(self) -> tuple[str, ...]:
        """Digital layers that are not included in the energy."""
        return self._missing(self.profile.digital_pj_per_mac)

    @cached_property
    def uncosted_layers(self) -> tuple[str, ...]:
        """Digital layers that are missing from the time or the energy."""
        return max(self.untimed_layers, self.unpowered_layers, key=len)  # one contains the other

    def _missing(self, per_mac: float | None) -> tuple[str, ...]:
        counted = set() if per_mac is None else {stage.layer for stage in self.stages}
        return tuple(name for name in self.mapped.digital_layers if name not in counted)

    @property
    def utilisation(self) -> float:
        """Share of the cells of all tiles, including replicas, that store a weight."""
        replicas = {stage.layer: stage.replicas for stage in self.stages}
        cells = sum(replicas[layer.name] * layer.cells for layer in self.mapped.layers)
        return cells / (self.tiles * math.prod(self.mapped.tile_size))

    def summary(self, slices: int = 100) -> dict[str, str | int | float | None]:
        """Return the metrics of the whole network, with the profile and level that they refer to.

        Args:
            slices: number of slices in the stack.
        """
        energy_j, per_chip = self.stack_j(1), self.profile.tiles_per_chip
        area = self.profile.area_mm2
        return {
            "profile": self.profile.name,
            "level": self.level,
            "packing": self.placement.packing,
            "tiles": self.tiles,
            "utilisation_placed": self.utilisation,
            "chips": None if per_chip is None else math.ceil(self.tiles / per_chip),
            "area_mm2": None if area is None else self.tiles * area,
            "latency_ms": 1e3 * self.latency_s,
            "interval_ms": 1e3 * self.interval_s,
            "throughput_per_s": self.throughput_per_s,
            "energy_mj": 1e3 * energy_j,
            "tops": 2e-12 * self.macs / self.interval_s,
            "tops_per_w": 2e-12 * self.macs / energy_j,
            "slices": slices,
            "stack_ms": 1e3 * self.stack_s(slices, pipelined=False),
            "stack_pipelined_ms": 1e3 * self.stack_s(slices),
            "gain": self.gain,
            "skip_buffer_kib": float(self.buffers()["bytes"].sum()) / 1024,
            "uncosted_layers": len(self.uncosted_layers),
            "untimed_layers": len(self.untimed_layers),
            "unpowered_layers": len(self.unpowered_layers),
        }

    def table(self) -> pd.DataFrame:
        """Return one row per stage, with profile and level."""
        return pd.DataFrame(
            {
                "layer": stage.layer,
                "tiles": stage.tiles,
                "replicas": stage.replicas,
                "start_ms": 1e3 * stage.start_s,
                "time_ms": 1e3 * stage.time_s,
                "bound_by": stage.bound_by,
                "energy_mj": 1e3 * stage.energy_j,
                "profile": self.profile.name,
                "level": self.level,
            }
            for stage in self.stages
        )

    def timeline(self, slices: int) -> pd.DataFrame:
        """Return the times of each slice in each layer of a pipelined stack, for the Gantt chart.

        Returns:
            columns ``slice`` (from 0), ``layer``, ``start_ms``, ``end_ms``, ``profile``, ``level``.
        """
        self.stack_s(slices)
        return pd.DataFrame(
            {
                "slice": number,
                "layer": stage.layer,
                "start_ms": 1e3 * (number * self.interval_s + stage.start_s),
                "end_ms": 1e3 * (number * self.interval_s + stage.start_s + stage.time_s),
                "profile": self.profile.name,
                "level": self.level,
            }
            for number in range(slices)
            for stage in self.stages
            if stage.time_s > 0
        )

    def buffers(self) -> pd.DataFrame:
        """Return the memory for the skip connections of a pipelined stack.

        A feature map is stored from the end of the layer that produces it to the end of the last
        layer during or after which it is read; slices that enter meanwhile each need a copy.

        Returns:
            one row per skip: ``made_by``, ``read_by``, ``kept_ms``, ``copies``, ``bytes`` (of all
            copies, 8 bits per value), ``profile``, ``level``. ``read_by`` is the layer during or
            after which the map is last read; a subsequent concatenation copies the map into the
            input buffer of the next layer.
        """
        ends = [stage.start_s + stage.time_s for stage in self.stages]
        rows = []
        for skip in self.mapped.skips:
            kept_s = ends[skip.read] - (ends[skip.born] if skip.born >= 0 else 0.0)
            copies = max(1, math.ceil(kept_s / self.interval_s - 1e-9))
            rows.append(
                {
                    "made_by": self.stages[skip.born].layer if skip.born >= 0 else "(input)",
                    "read_by": self.stages[skip.read].layer,
                    "kept_ms": 1e3 * kept_s,
                    "copies": copies,
                    "bytes": copies * skip.elements * NUMBER_BYTES,
                }
            )
        table = SKIP_BUFFERS.frame(rows)
        return table.assign(profile=self.profile.name, level=self.level)
