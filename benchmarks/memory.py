"""Peak memory of an evaluation and of a training step, as a multiple of the digital network's.

    python benchmarks/memory.py [--only forward training] [--quick] [--threads 2] [--json FILE]

U-Net with 32 features, tile 256. Each contender runs in a fresh process with the same allocator.
First, one small image passes through a separate network, which triggers all compilation. Then the
current resident memory is read, followed by the peak over the next steps. "step MB" is the
difference of the two: activations, gradients, the optimizer's state and work space, not the
weights. "process MB" is the total peak. Linux only.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any

from _contenders import (
    FORWARD_CONTENDERS,
    REFERENCE,
    SLOW,
    TRAINING_CONTENDERS,
    forward_pass,
    share_on_tiles,
    training_step,
)
from _peak import in_fresh_process, level_mb, status_mb
from _report import Report, parser, prepare
from _table import show
from _workloads import FORWARD, TRAINING, Setup, Workload

TARGET = 1.3
_SMALL_SIDE = 32
_KINDS = {
    "forward": (FORWARD["unet-256"], forward_pass, FORWARD_CONTENDERS),
    "training": (TRAINING["unet-256"], training_step, TRAINING_CONTENDERS),
}


@dataclass(frozen=True)
class Peak:
    """Peak memory of one contender, in MB of 10^6 bytes."""

    step_mb: float
    process_mb: float
    on_tiles: float


def main() -> None:
    """Measure, print a table of each kind of step, and write the results as JSON."""
    arguments = _arguments()
    report = Report("memory", arguments)
    for kind in arguments.only:
        workload, _, contenders = _KINDS[kind]
        names = [name for name in contenders if name in arguments.contenders]
        if arguments.quick:
            workload = workload.small()
        about = workload.describe() | {"target": TARGET}
        report.add(kind, {"workload": about, **_measure(kind, workload, names, arguments)})
        show(kind, report.document)


def _measure(
    kind: str, workload: Workload, names: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    rows, skipped = [], {}
    for slow in (False, True):
        batch = min(arguments.slow_batch, workload.shape[0]) if slow else workload.shape[0]
        part = replace(workload, shape=(batch, *workload.shape[1:]))
        group = [n for n in names if n != REFERENCE and (n in SLOW) == slow]
        reference = None
        for name in [REFERENCE, *group] if group or not slow else []:
            peak = in_fresh_process(_peak, kind, name, part, arguments.threads, arguments.rounds)
            if isinstance(peak, str):
                skipped[name] = peak
                continue
            reference = reference or peak
            ratio = peak["step_mb"] / reference["step_mb"]
            rows.append({"contender": name, "batch": batch, "ratio": ratio, **peak})
    return {"rows": rows, "skipped": skipped}


def _peak(kind: str, name: str, workload: Workload, threads: int, steps: int) -> Peak:
    prepare(threads)
    _, build, _ = _KINDS[kind]
    side = (_SMALL_SIDE,) * (len(workload.shape) - 2)
    build(name, Setup.of(replace(workload, shape=(1, workload.shape[1], *side))))[0]()
    setup = Setup.of(workload)
    run, model = build(name, setup)
    share = share_on_tiles(model, setup)
    del setup, model
    before = level_mb()
    for _ in range(steps):
        run()
    peak = status_mb("VmHWM")
    return Peak(peak - before, peak, share)


def _arguments() -> argparse.Namespace:
    contenders = sorted({*FORWARD_CONTENDERS, *TRAINING_CONTENDERS} - {"triton"})
    options = parser(__doc__, _KINDS)
    options.set_defaults(rounds=3)
    options.add_argument("--contenders", nargs="+", choices=contenders, default=contenders)
    options.add_argument("--slow-batch", type=int, default=2, help="of slow contenders (default 2)")
    return options.parse_args()


if __name__ == "__main__":
    main()
