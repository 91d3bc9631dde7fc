"""Scaling of the cost of a simulated chip: one quantity varies, the others are constant.

    python benchmarks/scaling.py [--only side batch] [--quick] [--threads 2] [--json FILE]

U-Net with 32 features. ``side`` is the side length of the image in pixels, ``batch`` the number of
images per batch, ``tile`` the rows and columns of a tile, ``chips`` the number of chips that
evaluate the same images, and ``times`` the number of ages of each chip. "program" programs the
chips, "age" reads them at each time, "forward" evaluates the images on each chip at each time, and
"digital" evaluates them the same number of times on the digital network.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any

import torch
from _contenders import DAY_S, Run
from _report import Report, parser, prepare
from _table import show
from _timing import interleaved
from _workloads import FORWARD, Setup

import analogmed as am
from analogmed.analog import ChipSnapshot


@dataclass(frozen=True)
class Study:
    """A measured setting; the defaults are constant while one quantity varies."""

    side: int = 128
    batch: int = 2
    tile: int = 256
    chips: int = 1
    times: int = 1


SERIES: dict[str, tuple[int, ...]] = {
    "side": (64, 128, 256, 512),
    "batch": (1, 2, 4, 8, 16),
    "tile": (64, 128, 256, 512, 1024),
    "chips": (1, 2, 4, 8),
    "times": (1, 2, 5, 10),
}
_QUICK = Study(side=32, batch=1)


def main() -> None:
    """Measure the requested series, print a table of each, and write the results as JSON."""
    arguments = _arguments()
    prepare(arguments.threads)
    report = Report("scaling", arguments)
    for name in arguments.only:
        base = _QUICK if arguments.quick else Study()
        values = SERIES[name][:2] if arguments.quick else SERIES[name]
        rows = []
        for value in values:
            study = replace(base, **{name: value})
            rows.append({"value": value, **_measure(study, arguments)})
        report.add(name, {"workload": _describe(name, base), "rows": rows, "skipped": {}})
        show(name, report.document)


def _measure(study: Study, arguments: argparse.Namespace) -> dict[str, Any]:
    workload = FORWARD["unet-256"].small() if arguments.quick else FORWARD["unet-256"]
    shape = (study.batch, 3, study.side, study.side)
    setup = Setup.of(replace(workload, shape=shape, tile_size=study.tile))
    digital = setup.digital.eval()
    analog = setup.convert(arguments.backend).eval()
    ages_s = [DAY_S * (1 + number) for number in range(study.times)]

    def program() -> list[am.Chip]:
        return [am.Chip(analog, seed=seed) for seed in range(study.chips)]

    chips = program()

    def age() -> list[ChipSnapshot]:
        return [chip.at(age_s) for chip in chips for age_s in ages_s]

    readings = age()

    def forward() -> None:
        for reading in readings:
            reading(setup.images)

    @torch.no_grad()
    def evaluate_digitally() -> None:
        for _ in readings:
            digital(setup.images)

    runs: dict[str, Run] = {
        "digital": evaluate_digitally,
        "forward": forward,
        "program": program,
        "age": age,
    }
    timings = interleaved(runs, rounds=arguments.rounds)
    cost = {name: timing.summary(timings["digital"]) for name, timing in timings.items()}
    ratio = {key.removeprefix("wall_"): cost["forward"][key] for key in _RATIOS}
    return {f"{name}_s": cost[name]["wall_s"] for name in cost} | ratio


_RATIOS = ("wall_ratio", "wall_ratio_lowest", "wall_ratio_highest")


def _describe(name: str, base: Study) -> dict[str, Any]:
    shape: list[Any] = [base.batch, 3, base.side, base.side]
    if name == "side":
        shape[2:] = ["side", "side"]
    elif name == "batch":
        shape[0] = "batch"
    held = {key: getattr(base, key) for key in ("chips", "times") if key != name}
    tile = "varies" if name == "tile" else base.tile
    return {"model": "unet", "shape": shape, "tile_size": tile, "target": None, "hardware": held}


def _arguments() -> argparse.Namespace:
    options = parser(__doc__, SERIES)
    options.add_argument("--backend", default="auto", help="of analogmed (default auto)")
    return options.parse_args()


if __name__ == "__main__":
    main()
