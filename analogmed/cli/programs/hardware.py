"""`python -m analogmed.hardware`: tiles, latency and energy of networks on a chip."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.cli.programs.named_networks import Network, add_network_options, check_input, network
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import ensure_writable, write_atomically
from analogmed.hardware import (
    Cost,
    LookupTable,
    Profile,
    TileMap,
    estimate,
    load_profile,
    map_tiles,
    place,
    profile_names,
    read_table,
    record,
)

EPILOG = """examples:
  # the U-Net of the LGG benchmark on HERMES tiles: tiles, utilisation, time, energy
  python -m analogmed.hardware --model unet --input 3 256 256
  # three networks beside each other, tables and figures in a folder
  python -m analogmed.hardware --model unet unetpp "swin_unetr(feature_size=24)" --out runs/cost
  # a 3D network on one volume
  python -m analogmed.hardware --model swin_unetr --input 4 96 96 96 --out_channels 3
  # replicate slow layers until 223 tiles are used, for a stack of 155 slices
  python -m analogmed.hardware --tile_budget 223 --slices 155 --transposed digital
  # several small layers on one tile
  python -m analogmed.hardware --model "unet(features=8)" --packing first_fit
  # tiles only, of any size, without a profile of the chip
  python -m analogmed.hardware --profile none --tile_size 512
  # a chip of your own
  python -m analogmed.hardware --profile my-chip.yaml
  # time operations on this machine; then predict a network from them
  python -m analogmed.hardware measure --out runs/measure
  python -m analogmed.hardware --model "unet(features=12)" --input 1 64 64 --table runs/measure

docs/hardware.md tells what the figures mean and where they come from.
"""


_DEVICE = ("device", "threads", "runtime")


def main(arguments: list[str]) -> None:
    """Map networks onto tiles and estimate their cost; print the tables."""
    options = _parser().parse_args(arguments)
    networks = list(map(network, options.model))
    shape = check_input(options.input)
    profile = None if options.profile == "none" else load_profile(options.profile)
    size = tuple(options.tile_size or (profile.tile_size if profile else (512,)))
    folder = None if options.out is None else ensure_writable(options.out)
    table = None if options.table is None else read_table(options.table)
    results = [_Result(each, shape, size, profile, table, options) for each in networks]
    _print(results, options)
    if folder is not None:
        _write(results, folder, options)
        print(f"tables and figures: {folder}/")


class _Result:
    """Tile map and cost estimate of one network."""

    def __init__(
        self,
        network: Network,
        shape: tuple[int, ...],
        tile_size: tuple[int, ...],
        profile: Profile | None,
        table: LookupTable | None,
        options: argparse.Namespace,
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
        elif options.tile_budget is not None:
            raise ConfigError("--tile_budget needs the times of a profile; --profile none has none")
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analogmed.hardware",
        description="Lay networks on the tiles of a chip: how many, how full, how often used; "
        "estimate time and energy of a slice and of a stack of slices. Nothing is trained or "
        "simulated.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_network_options(parser, default_input=[3, 256, 256])
    parser.add_argument(
        "--profile",
        default="hermes-1-phase",
        metavar="NAME",
        help=f"kind of tile: {', '.join(profile_names())}, a YAML file, or none for tiles without "
        "time and energy (default: hermes-1-phase)",
    )
    parser.add_argument(
        "--level",
        default="mvm_only",
        metavar="LEVEL",
        help="mvm_only: product and converters; measured_layer: as measured on a layer, with links "
        "and digital units (default: mvm_only)",
    )
    parser.add_argument(
        "--tile_size",
        nargs="+",
        type=int,
        metavar="N",
        help="rows and columns of a tile, one number for a square (default: the profile's; 512 "
        "without one)",
    )
    _add_mapping_options(parser)
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FOLDER",
        help="a look-up table of measure: tells what the networks take on its device, digitally",
    )
    parser.add_argument(
        "--slices",
        type=int,
        default=100,
        metavar="N",
        help="slices of the stack (default: 100)",
    )
    parser.add_argument(
        "--drawn_slices",
        type=int,
        default=4,
        metavar="N",
        help="slices in the picture of the pipeline (default: 4)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write tables (CSV) and figures (PNG) there"
    )
    return parser


def _add_mapping_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--row_split",
        choices=("channels", "even"),
        default="channels",
        help="cut a layer's rows by whole input channels, or evenly as aihwkit (default: channels)",
    )
    parser.add_argument(
        "--transposed",
        choices=("analog", "digital"),
        default="analog",
        help="whether transposed convolutions are on tiles (default: analog)",
    )
    parser.add_argument(
        "--digital",
        nargs="+",
        default=(),
        metavar="LAYER",
        help="names or patterns of layers that stay digital",
    )
    parser.add_argument(
        "--packing",
        choices=("none", "first_fit"),
        default="none",
        help="first_fit: several small layers on one tile; they take turns (default: none)",
    )
    parser.add_argument(
        "--tile_budget",
        type=int,
        metavar="N",
        help="replicate slow layers as far as this many tiles allow",
    )


def _print(results: list[_Result], options: argparse.Namespace) -> None:
    from analogmed.report import render_costs, render_layers, render_tiles

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


def _write(results: list[_Result], folder: Path, options: argparse.Namespace) -> None:
    from analogmed.report import reuse_per_layer, slice_timeline, tile_occupancy

    def save(table: pd.DataFrame, name: str) -> None:
        write_atomically(folder / f"{name}.csv", lambda path: table.to_csv(path, index=False))

    save(pd.DataFrame([result.summary(options.slices) for result in results]), "summary")
    save(_stacked(results, _Result.layers), "layers")
    save(_stacked(results, lambda result: result.placement.table()), "tiles")
    costed = [result for result in results if result.cost is not None]
    if costed:
        save(_stacked(costed, lambda r: r.cost.buffers()), "skip_buffers")
        save(_stacked(costed, lambda r: r.cost.timeline(options.drawn_slices)), "timeline")
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
