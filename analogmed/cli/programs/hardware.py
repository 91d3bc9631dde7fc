"""Program of ``analogmed hardware``: tiles, latency and energy of networks on a chip."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.cli.named_networks import NamedNetwork
from analogmed.cli.settings import MapConfig
from analogmed.foundation.files import ensure_writable
from analogmed.hardware import (
    Cost,
    LookupTable,
    Profile,
    TileMap,
    estimate,
    map_tiles,
    place,
    read_table,
    record,
)
from analogmed.report import (
    render_costs,
    render_layers,
    render_tiles,
    reuse_per_layer,
    slice_timeline,
    tile_occupancy,
)
from analogmed.tables.hardware import LAYERS, SKIP_BUFFERS, SUMMARY, TILES, TIMELINE

_DEVICE = ("device", "threads", "runtime")


def run(options: MapConfig) -> None:
    """Map networks onto tiles and estimate their cost; print the tables."""
    shape, profile = options.input, options.load_profile()
    size = options.tile_size or (profile.tile_size if profile else (512,))
    folder = None if options.out is None else ensure_writable(options.out)
    table = None if options.table is None else read_table(options.table)
    results = [
        _Result(network, shape, size, profile, table, options) for network in options.networks()
    ]
    _print(results, options)
    if folder is not None:
        _write(results, folder, options)
        print(f"tables and figures: {folder}/")


class _Result:
    """Tile map and cost estimate of one network."""

    def __init__(
        self,
        network: NamedNetwork,
        shape: tuple[int, ...],
        tile_size: tuple[int, ...],
        profile: Profile | None,
        table: LookupTable | None,
        options: MapConfig,
    ) -> None:
        self.name = network.text
        model = network.build(shape, options.out_channels)
        self.mapped: TileMap = map_tiles(
            model,
            (1, *shape),
            tile_size if len(tile_size) > 1 else tile_size[0],
            row_split=options.row_split,
            transposed=options.transposed,
            digital=options.digital,
        )
        self.placement = place(self.mapped, options.packing)
        self.cost: Cost | None = None
        if profile is not None:
            self.cost = estimate(
                self.mapped,
                profile,
                options.level,
                tile_budget=options.tile_budget,
                placement=self.placement,
            )
        self.input = " x ".join(map(str, shape))
        self.on_device: dict[str, Any] = {}
        if table is not None:
            place_of = {f"digital_{name}": table.provenance[name] for name in _DEVICE}
            digital_s = table.predict_s(record(model, (1, *shape)).counts)
            self.on_device = place_of | {"digital_ms": 1e3 * digital_s}

    def summary(self, slices: int) -> dict[str, Any]:
        size = " x ".join(map(str, self.mapped.tile_size))
        row: dict[str, Any] = {"model": self.name, "input": self.input, "tile_size": size}
        row |= self.mapped.summary()
        row |= {"tiles_placed": self.placement.tiles}
        row |= {"utilisation_placed": self.placement.utilisation}
        if self.cost is not None:
            estimates = self.cost.summary(slices)
            row["tiles_placed"] = estimates.pop("tiles")
            row |= estimates
        return row | self.on_device

    def layers(self) -> pd.DataFrame:
        table = self.mapped.table()
        if self.cost is None:
            return table
        stages = self.cost.table().drop(columns=["tiles", "start_ms"])
        sums = {"time_ms": "sum", "energy_mj": "sum"} | dict.fromkeys(
            ("replicas", "bound_by", "profile", "level"), "first"
        )
        return table.merge(stages.groupby("layer", sort=False).agg(sums), on="layer", how="left")


def _print(results: list[_Result], options: MapConfig) -> None:
    costs = pd.DataFrame([result.summary(options.slices) for result in results])
    if len(results) == 1:
        title = f"Layers of {results[0].name} for an input of {results[0].input}"
        if results[0].cost is not None:
            title += f"\nEstimates for {results[0].cost.profile.name}, level {options.level}"
        print(render_layers(results[0].layers(), title))
    print(render_tiles(costs))
    for result in results:
        if options.packing != "none":
            placed = result.placement
            print(
                f"{result.name}: packed ({options.packing}) on {placed.tiles} tiles, of which "
                f"{placed.shared_tiles} are shared; {placed.utilisation:.1%} of their cells used\n"
            )
    if results[0].cost is not None:
        print(render_costs(costs))
        print(f"{options.level}: {results[0].cost.profile.figures(options.level).source}.\n")
    for result in results:
        if device := result.on_device:
            print(
                f"{result.name}: {device['digital_ms']:.3g} ms digitally on "
                f"{device['digital_device']}, threads: {device['digital_threads']}, "
                f"{device['digital_runtime']}; sum over its measured operations"
            )


def _write(results: list[_Result], folder: Path, options: MapConfig) -> None:
    SUMMARY.write(pd.DataFrame([result.summary(options.slices) for result in results]), folder)
    LAYERS.write(_stacked(results, _Result.layers), folder)
    TILES.write(_stacked(results, lambda result: result.placement.table()), folder)
    costed = [result for result in results if result.cost is not None]
    if costed:
        SKIP_BUFFERS.write(_stacked(costed, lambda r: r.cost.buffers()), folder)
        TIMELINE.write(_stacked(costed, lambda r: r.cost.timeline(options.drawn_slices)), folder)
    for result in results:
        file = re.sub(r"[^\w.-]+", "_", result.name).strip("_")
        figures = folder / "figures"
        blocks = result.placement.table()
        tile_occupancy(blocks, figures / f"{file}-tiles.png", title=result.name)
        reuse_per_layer(result.mapped.table(), figures / f"{file}-reuse.png", title=result.name)
        if result.cost is not None:
            timeline = result.cost.timeline(options.drawn_slices)
            slice_timeline(timeline, figures / f"{file}-pipeline.png", title=result.name)


def _stacked(results: list[_Result], table: Callable[[Any], pd.DataFrame]) -> pd.DataFrame:
    tables = [table(result).assign(model=result.name) for result in results]
    stacked = pd.concat(tables, ignore_index=True)
    return stacked[["model", *stacked.columns.drop("model")]]
