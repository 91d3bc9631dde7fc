"""Cost of programming a chip, and of ageing and reading it once, relative to inference on it.

    python benchmarks/programming.py [--only unet-256 swin-3d] [--quick] [--threads 1] [--json FILE]

"program" programs a chip, "read" ages it by one day and reads it. Each additional chip adds both to
the cost of a sweep, and each additional time or read adds one "read". "pass" is the evaluation of
100 images of 256 x 256 pixels on the chip (in 3D, of volumes with the same number of voxels),
measured on some of them and scaled by the number of pixels; the table reports the number of
measured images. ``aihwkit`` programs and drifts aihwkit's own tiles (``to_aihwkit``), which keep
transposed and 3D convolutions digital; the time per million weights on tiles compares the two.
"""

import argparse
import math
import statistics
from collections.abc import Iterator
from typing import Any

from _contenders import DAY_S, Run, share_on_tiles
from _report import Report, parser, prepare
from _table import show
from _timing import Timing, interleaved
from _workloads import FORWARD, Setup, Workload
from torch import nn

import analogmed as am
from analogmed.analog import to_aihwkit
from analogmed.analog.layers.base import analog_layers

PASS_PIXELS = 100 * 256 * 256
WORKLOADS = ("unet-256", "unet-512", "unetpp", "swin-2d", "swin-3d")
CONTENDERS = ("analogmed", "aihwkit")
_MEASURED_IMAGES = {"analogmed": 4, "aihwkit": 1}


def main() -> None:
    """Measure the requested workloads, print a table of each, and write the results as JSON."""
    arguments = _arguments()
    prepare(arguments.threads)
    report = Report("programming", arguments)
    for name in arguments.only:
        workload = FORWARD[name].small() if arguments.quick else FORWARD[name]
        rows = list(_measure(Setup.of(workload), arguments))
        report.add(name, {"workload": _describe(workload), "rows": rows, "skipped": {}})
        show(name, report.document)


def _describe(workload: Workload) -> dict[str, Any]:
    return workload.describe() | {"target": 0.05}


def _measure(setup: Setup, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in arguments.contenders:
        model = setup.convert("auto") if name == "analogmed" else to_aihwkit(setup.calibrated)
        part = setup.with_batch(_MEASURED_IMAGES[name])
        timings = interleaved(_runs(model.eval(), part), rounds=arguments.rounds)
        share = share_on_tiles(model, setup)
        yield _row(name, timings, part.images.shape, share * _weights(setup.calibrated))


def _runs(model: nn.Module, setup: Setup) -> dict[str, Run]:
    chip = am.Chip(model, seed=0)
    reading = chip.at(DAY_S)
    return {
        "program": lambda: am.Chip(model, seed=0),
        "read": lambda: chip.at(DAY_S),
        "pass": lambda: reading(setup.images),
    }


def _weights(model: nn.Module) -> int:
    return sum(layer.weight.numel() for layer in analog_layers(model).values())


def _row(
    name: str, timings: dict[str, Timing], shape: tuple[int, ...], weights: float
) -> dict[str, Any]:
    scale = PASS_PIXELS / (shape[0] * math.prod(shape[2:]))
    row: dict[str, Any] = {"contender": name, "weights": round(weights), "images": shape[0]}
    for kind in ("wall", "cpu"):
        seconds = {key: getattr(timing, f"{kind}_s") for key, timing in timings.items()}
        shares = [
            (program + read) / (scale * one_pass)
            for program, read, one_pass in zip(
                seconds["program"], seconds["read"], seconds["pass"], strict=True
            )
        ]
        median = {key: statistics.median(values) for key, values in seconds.items()}
        row |= {
            f"program_{kind}_s": median["program"],
            f"read_{kind}_s": median["read"],
            f"pass_{kind}_s": scale * median["pass"],
            f"share_{kind}": statistics.median(shares),
            f"share_{kind}_lowest": min(shares),
            f"share_{kind}_highest": max(shares),
        }
    return row


def _arguments() -> argparse.Namespace:
    options = parser(__doc__, WORKLOADS)
    options.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options.set_defaults(threads=1, rounds=2)
    return options.parse_args()


if __name__ == "__main__":
    main()
