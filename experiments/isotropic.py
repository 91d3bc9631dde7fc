"""Isotropic against pyramidal networks of matched size, on the same patients and type of chip.

    python experiments/isotropic.py --plan      # sizes only
    python experiments/isotropic.py             # all networks, both matches: days on two cores
    python experiments/isotropic.py --networks isotropic pyramidal unet --match tiles --tiles 26

The widths of U-Net, U-Net++ and Swin-UNETR are chosen to match the parameters, or the tiles, of the
smallest Swin-UNETR (or a given number) to within 10 %. Two networks of the search space are added,
which differ only in their shape. Both have five levels of the same block: the isotropic one has the
same number of channels on each level, the pyramidal one doubles it from level to level.

Every network is first trained digitally. From this start, one digital and one hardware-aware
training follow with the same number of epochs. plan.md contains the sizes; table.md contains Dice,
normalised Dice after one day on the chip, parameters and tiles; differences.md compares the
networks of a match, paired by patient. All commands are printed; finished steps are not repeated.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from _programs import (
    evaluate_networks,
    in_parallel,
    markdown,
    train_pair,
    with_interval,
    write_table,
)

from analogmed.evaluation.statistics.intervals import (
    ChipMeans,
    Interval,
    difference,
    two_way_bootstrap,
)
from analogmed.evaluation.summaries.runs import NetworkRun, align_runs, network_runs
from analogmed.foundation.files import write_text_atomically
from analogmed.hardware import map_tiles
from analogmed.metrics.properties import difference_bounds
from analogmed.models import Genotype, Level, build_model
from analogmed.tables.robustness import SUMMARY

DAY_S = 86_400
TOLERANCE = 0.1
EPOCHS = 60
TASK = "phantom_brain"
DATA = ["--task.options={phantom_patients: 60}", "--task.shares=[0.25, 0.1, 0.65]"]
IMAGE = (1, 3, 64, 64)
BLOCK, DEPTH = "F", 5


def _of_space(width: int, growth: int) -> dict[str, Any]:
    levels = tuple(Level(BLOCK, width * growth**level, 3) for level in range(DEPTH))
    return {"genotype": Genotype(levels).to_dict()}


NETWORKS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "isotropic": ("subnet", lambda width: _of_space(width, growth=1)),
    "pyramidal": ("subnet", lambda width: _of_space(width, growth=2)),
    "unet": ("unet", lambda width: {"features": width}),
    "unetpp": (
        "unetpp",
        lambda width: {"features": [width, width, 2 * width, 4 * width, 8 * width, width]},
    ),
    "swin_unetr": ("swin_unetr", lambda width: {"feature_size": 12 * width}),
}
MATCHES = ("parameters", "tiles")


@dataclass(frozen=True)
class Network:
    """A network of a given width.

    Attributes:
        name: key of :data:`NETWORKS`.
        width: width parameter, from which the network's options are derived.
        tile_size: rows and columns of the tiles that the network is mapped onto.
    """

    name: str
    width: int
    tile_size: int

    @property
    def model(self) -> str:
        """Name in the registry."""
        return NETWORKS[self.name][0]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the network."""
        return NETWORKS[self.name][1](self.width)

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return f"{self.name}-{self.width}"


@cache
def size_of(network: Network) -> dict[str, int]:
    """Return parameters, tiles and multiply-accumulates of one image."""
    model = build_model(network.model, in_channels=IMAGE[1], out_channels=1, **network.options)
    mapped = map_tiles(model, IMAGE, network.tile_size, row_split="even").summary()
    return {name: int(mapped[name]) for name in ("parameters", "tiles", "macs")}


def matched(names: Sequence[str], match: str, target: int, tile_size: int) -> list[Network]:
    """Return the network of each name whose parameters or tiles are nearest to a number.

    Raises:
        SystemExit: a network differs from the number by more than 10 %.
    """
    networks = [_nearest(name, match, target, tile_size) for name in names]
    if not _agree(networks, match, target):
        nearest = ", ".join(f"{each.folder} {size_of(each)[match]}" for each in networks)
        raise SystemExit(
            f"not all can have {target} {match} within {TOLERANCE:.0%}; the nearest are {nearest}; "
            f"choose another number with --{match}, or fewer networks with --networks"
        )
    return networks


def matched_near(names: Sequence[str], match: str, target: int, tile_size: int) -> list[Network]:
    """Return matched networks as ``matched`` does, for the nearest number that all can match."""
    if match == "tiles":
        for step in range(math.ceil(TOLERANCE * target)):
            for number in (target - step, target + step):
                networks = [_nearest(name, match, number, tile_size) for name in names]
                if _agree(networks, match, number):
                    return networks
    return matched(names, match, target, tile_size)


def _agree(networks: Sequence[Network], match: str, target: int) -> bool:
    return all(abs(size_of(each)[match] - target) <= TOLERANCE * target for each in networks)


def _nearest(name: str, match: str, target: int, tile_size: int) -> Network:
    def count(width: int) -> int:
        return size_of(Network(name, width, tile_size))[match]

    above = 1
    while count(above) < target:
        above *= 2
    below = max(above // 2, 1)
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (middle, above) if count(middle) < target else (below, middle)
    width = min((below, above), key=lambda each: abs(count(each) - target))
    return Network(name, width, tile_size)


def main() -> None:
    arguments = _arguments()
    matches = dict(_matches(arguments))
    plan = _plan(matches)
    write_text_atomically(arguments.out / "plan.md", markdown(plan))
    print(markdown(plan), flush=True)
    if arguments.plan:
        return
    networks = list(dict.fromkeys(each for group in matches.values() for each in group))
    in_parallel(lambda each: run_one(each, arguments), networks, arguments.workers)
    tables = [_table(match, group, arguments.out) for match, group in matches.items()]
    differences = [_differences(match, group, arguments.out) for match, group in matches.items()]
    for name, rows in (("table", pd.concat(tables)), ("differences", pd.concat(differences))):
        text = markdown(_as_text(rows))
        write_table(arguments.out, name, rows, text)
        print(text)


def run_one(network: Network, arguments: argparse.Namespace) -> None:
    """Run three trainings and an evaluation."""
    out = arguments.out / network.folder
    epochs = max(1, round(arguments.length * EPOCHS))
    options = yaml.safe_dump(network.options, default_flow_style=True, width=10_000).strip()
    tiles = f"--hardware.tile_size={network.tile_size}"
    data = [f"--task={TASK}", *arguments.data]
    length = [f"--epochs={epochs}", f"--validate_every={epochs}"]
    training = [*data, *length, *arguments.optimizer]
    model = [f"--model={network.model}", f"--model.options={options}"]
    _, *networks = train_pair(training, model, out, hwa=[tiles])
    sweep = {"chips": arguments.chips, "times_s": (0, DAY_S)}
    evaluate_networks(data, networks, out / "eval", **sweep, further=[tiles])


def _matches(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Network]]]:
    names, tile_size = arguments.networks, arguments.tile_size
    chosen: list[Network] = []
    for match in arguments.match:
        if target := getattr(arguments, match):
            group = matched(names, match, target, tile_size)
        else:
            target = size_of(Network("swin_unetr", 1, tile_size))[match]
            group = matched_near(names, match, target, tile_size)
        group = [_trained_once(network, chosen, match, target) for network in group]
        chosen += group
        yield match, group


def _trained_once(network: Network, chosen: list[Network], match: str, target: int) -> Network:
    """Return the same-named network of another match if it fits within 10 %, else the given one."""
    fit = (each for each in chosen if each.name == network.name and _agree([each], match, target))
    return next(fit, network)


def _plan(matches: dict[str, list[Network]]) -> pd.DataFrame:
    rows = [
        {"matched": match, "network": network.name, "width": network.width, **size_of(network)}
        for match, group in matches.items()
        for network in group
    ]
    return pd.DataFrame(rows)


def _table(match: str, networks: list[Network], out: Path) -> pd.DataFrame:
    """Return the summary rows of the evaluations, for each network and training."""
    names = ["dice_own_digital", "dice_1d", "normalised_dice_1d"]
    estimates = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    tables = []
    for network in networks:
        summary = SUMMARY.read(out / network.folder / "eval")
        columns = ["training", *estimates, "n_patients", "n_chips", "parameters", "tiles"]
        labels = {"matched": match, "network": network.name, "width": network.width}
        tables.append(summary[columns].assign(**labels))
    columns = ["matched", "network", "width", "training", *estimates]
    return pd.concat(tables)[[*columns, "n_patients", "n_chips", "parameters", "tiles"]]


def _differences(match: str, networks: list[Network], out: Path) -> pd.DataFrame:
    """Return differences in 1-day Dice and normalised Dice of pairs with the same training."""
    results = [
        pd.read_parquet(out / network.folder / "eval" / "results.parquet").assign(
            model=network.name
        )
        for network in networks
    ]
    runs = list(network_runs(pd.concat(results), "dice"))
    return pd.DataFrame(
        {
            "matched": match,
            "network": first.key["model"],
            "less": second.key["model"],
            "training": first.key["training"],
            **_day_difference(first, second).cells("dice_1d"),
            **_kept_difference(first, second).cells("kept"),
        }
        for first, second in combinations(runs, 2)
        if first.key["training"] == second.key["training"]
    )


def _day_difference(first: NetworkRun, second: NetworkRun) -> Interval:
    both = align_runs([first, second], DAY_S)
    return two_way_bootstrap(
        *both.arrays,
        patients=both.patients,
        statistic=difference,
        chip_sets=both.chip_sets,
        bounds=difference_bounds("dice"),
    )


def _kept_difference(first: NetworkRun, second: NetworkRun) -> Interval:
    """Return the difference in 1-day Dice relative to the digitally trained network's Dice."""
    both = align_runs([first, second], DAY_S)
    cases = sorted(set(first.cases) & set(second.cases))
    digital = [
        pd.Series(run.reference, index=run.cases).reindex(cases).to_numpy(float)
        for run in (first, second)
    ]
    return two_way_bootstrap(
        *both.arrays,
        *digital,
        patients=both.patients,
        statistic=_less_kept,
        chip_sets=[*both.chip_sets, *both.chip_sets],
    )


def _less_kept(
    day: ChipMeans, other_day: ChipMeans, digital: ChipMeans, other_digital: ChipMeans
) -> np.ndarray:
    return day.mean() / digital.mean() - other_day.mean() / other_digital.mean()


def _as_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each estimate with its interval in one column."""
    text = rows.copy()
    for name in [column for column in rows if f"{column}_low" in rows]:
        ends = (name, f"{name}_low", f"{name}_high")
        text[name] = [with_interval(*row) for row in rows[list(ends)].itertuples(index=False)]
        text = text.drop(columns=list(ends[1:]))
    return text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Settings --task.* (in place of the phantom's) and --optimizer.* are handed on.",
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--match", nargs="+", choices=MATCHES, default=list(MATCHES))
    parser.add_argument("--parameters", type=int, help="that all have; default: Swin-UNETR's")
    parser.add_argument("--tiles", type=int, help="that all take; default: Swin-UNETR's")
    parser.add_argument("--tile_size", type=int, default=512)
    parser.add_argument("--plan", action="store_true", help="sizes only; trains nothing")
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--length", type=float, default=1.0, help="factor on the epochs")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/isotropic"))
    arguments, others = parser.parse_known_args()
    if wrong := [text for text in others if not text.startswith(("--task.", "--optimizer."))]:
        parser.error(f"unknown: {' '.join(wrong)}")
    arguments.optimizer = [text for text in others if text.startswith("--optimizer.")]
    arguments.data = [text for text in others if text.startswith("--task.")] or DATA
    return arguments


if __name__ == "__main__":
    main()
