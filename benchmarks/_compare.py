"""Interleaved timing of contenders on one workload, with the reasons of those that cannot run."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from _contenders import REFERENCE, SLOW, Run, share_on_tiles
from _simulators import SkippedError
from _timing import interleaved
from _workloads import Setup
from torch import nn

from analogmed.network.probe import is_out_of_memory

_SLOW_ROUNDS = 3

Build = Callable[[str, Setup], tuple[Run, nn.Module]]


def compare(
    setup: Setup, build: Build, names: Iterable[str], *, rounds: int, slow_batch: int
) -> dict[str, Any]:
    """Time contenders in turn, round by round, against the digital network of the same round.

    Args:
        setup: prepared workload.
        build: function that returns one run of a contender by name, or raises ``SkippedError`` with
            the reason.
        names: names of the contenders; the digital network always runs.
        rounds: number of rounds per contender; slow contenders run at most 3.
        slow_batch: batch size of slow contenders and of the digital run that they are compared
            with.

    Returns:
        ``rows``, one per contender and batch size, and ``skipped``, reasons by name.
    """
    wanted = set(names) - {REFERENCE}
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for slow in (False, True):
        group = [name for name in names if name in wanted and (name in SLOW) == slow]
        part = setup.with_batch(slow_batch) if slow else setup
        count = min(rounds, _SLOW_ROUNDS) if slow else rounds
        if group or not slow:
            found, reasons = _time(part, build, [REFERENCE, *group], count)
            rows += found if len(found) > 1 or not slow else []
            skipped |= reasons
    return {"rows": rows, "skipped": skipped}


def _time(
    setup: Setup, build: Build, names: list[str], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    runs: dict[str, Run] = {}
    shares: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            run, model = build(name, setup)
            run()  # compiles, and shows whether the contender can run
        except (SkippedError, NotImplementedError) as error:
            skipped[name] = str(error)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            skipped[name] = f"ran out of memory with a batch of {len(setup.images)}"
        else:
            runs[name], shares[name] = _finished(run, setup), share_on_tiles(model, setup)
    timings = interleaved(runs, rounds=rounds, warm_up=0 if rounds == 1 else 1)
    shared = {"batch": len(setup.images), "rounds": rounds}
    rows = [
        {"contender": name, **shared, "on_tiles": shares[name]}
        | timing.summary(timings[REFERENCE])
        | {"all_wall_s": timing.wall_s}
        for name, timing in timings.items()
    ]
    return rows, skipped


def _finished(run: Run, setup: Setup) -> Run:
    """Return a run that waits until the device has finished."""
    if setup.images.device.type != "cuda":
        return run

    def and_wait() -> None:
        run()
        torch.cuda.synchronize()

    return and_wait
