"""Program of ``analogmed hardware``: tiles, latency and energy of networks on a chip."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.cli.named_networks import NamedNetwork, StoredNetwork
from analogmed.cli.settings import MapConfig
from analogmed.execution.run_folder import RunFolder, locked
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
    render_digital,
    render_layers,
    render_tiles,
    reuse_per_layer,
    slice_timeline,
    tile_occupancy,
)
from analogmed.report.text_table import terminal
from analogmed.tables.hardware import LAYERS, SKIP_BUFFERS, SUMMARY, TILES, TIMELINE, item_of

_DEVICE = ("device", "threads", "runtime")
_FIGURES = "figures"
_WIDTH = 100


def run(options: MapConfig) -> None:
    """Map networks onto tiles and estimate their cost; print the tables."""
    if options.out is None:
        _print(_results(options), options)
        return
    with locked(options.out) as folder:
        run_folder = _run_folder(folder, options)
        run_folder.begin()
        results = _results(options)
        _print(results, options)
        _write(results, run_folder, options)
    print(f"tables and figures: {folder}/")


def _run_folder(folder: Path, options: MapConfig) -> RunFolder:
    costs, drawn = (SKIP_BUFFERS, TIMELINE), ("tiles", "reuse", "pipeline")
    figures = [f"{_FIGURES}/*-{name}.png" for name in drawn]
    has_costs = options.load_profile() is not None
    always = (SUMMARY, LAYERS, TILES, *(costs if has_costs else ()))
    optional = [*figures, *(() if has_costs else costs)]
    return RunFolder(folder, always, optional, settings="hardware.yaml")


def _results(options: MapConfig) -> "list[_Result]":
    profile = options.load_profile()
    size = options.tile_size or (profile.tile_size if profile else (512,))
    table = None if options.table is None else read_table(options.table)
    return [_Result(network, size, profile, table, options) for network in options.networks()]


class _Result:
    """Tile map and cost estimate of one network."""

    def __init__(
        self,
        network: NamedNetwork | StoredNetwork,
        tile_size: tuple[int, ...],
        profile: Profile | None,
        table: LookupTable | None,
        options: MapConfig,
    ) -> None:
        self.name, shape = network.text, network.input_shape(options.input or ())
        model = network.build(shape, options.out_channels)
        self.mapped: TileMap = map_tiles(
            model,
            (1, *shape),
            tile_size if len(tile_size) > 1 else tile_size[0],
            row_split=options.row_split,
            transposed=options.transposed,
            digital_layers=options.digital_layers or network.digital,
            row_copies=options.row_copies,
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
            _say(
                f"{result.name}: packed ({options.packing}) on {placed.tiles} tiles, of which "
                f"{placed.shared_tiles} are shared; {placed.utilisation:.1%} of their cells used"
            )
        if options.row_copies > 1 and all(layer.copies == 1 for layer in result.mapped.layers):
            _say(f"{result.name}: no layer has few enough rows for copies of its weights")
    digital = _stacked(results, lambda result: result.mapped.digital_table())
    if len(digital):
        print(render_digital(digital))
    if results[0].cost is not None:
        print(render_costs(costs))
        _say(f"{options.level}: {results[0].cost.profile.figures(options.level).source}.")
    for result in results:
        if device := result.on_device:
            _say(
                f"{result.name}: {device['digital_ms']:.3g} ms digitally on "
                f"{device['digital_device']}, threads: {device['digital_threads']}, "
                f"{device['digital_runtime']}; sum over its measured operations"
            )


def _say(text: str) -> None:
    """Print a sentence in lines of the width of the tables, and an empty line."""
    print(terminal(text, width=_WIDTH))


def _write(results: list[_Result], folder: RunFolder, options: MapConfig) -> None:
    folder.renew(options)
    folder.write(SUMMARY, pd.DataFrame([result.summary(options.slices) for result in results]))
    folder.write(LAYERS, _stacked(results, _Result.layers))
    folder.write(TILES, _stacked(results, lambda result: result.placement.table()))
    costed = [result for result in results if result.cost is not None]
    if costed:
        folder.write(SKIP_BUFFERS, _stacked(costed, lambda r: r.cost.buffers()))
        folder.write(TIMELINE, _stacked(costed, lambda r: r.cost.timeline(options.drawn_slices)))
    for result in results:
        file = re.sub(r"[^\w.-]+", "_", result.name).strip("_")
        name = f"{_FIGURES}/{file}"
        blocks = result.placement.table()
        _draw(tile_occupancy, blocks, f"{name}-tiles.png", result, folder)
        _draw(reuse_per_layer, result.mapped.table(), f"{name}-reuse.png", result, folder)
        if result.cost is not None:
            timeline = result.cost.timeline(options.drawn_slices)
            draw = partial(slice_timeline, item=item_of([result.input]))
            _draw(draw, timeline, f"{name}-pipeline.png", result, folder)


def _draw(
    draw: Callable[..., object], table: pd.DataFrame, name: str, of: _Result, folder: RunFolder
) -> None:
    folder.files.record(name)
    draw(table, folder.path / name, title=of.name)


def _stacked(results: list[_Result], table: Callable[[Any], pd.DataFrame]) -> pd.DataFrame:
    tables = [table(result).assign(model=result.name) for result in results]
    stacked = pd.concat(tables, ignore_index=True)
    return stacked[["model", *stacked.columns.drop("model")]]
