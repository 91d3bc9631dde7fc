"""Interleaved timing: every contender runs once per round, so that load affects all of them."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Times of one contender, in s per round.

    Attributes:
        wall_s: elapsed time.
        cpu_s: processor time of all threads. With one thread, it is the elapsed time of an idle
            machine, even if the machine is shared. (Idle OpenMP threads spin, which counts too.)
    """

    wall_s: list[float]
    cpu_s: list[float]

    def summary(self, reference: "Timing") -> dict[str, float]:
        """Return medians in s, and median, lowest and highest ratio to the reference per round."""
        wall = _ratios(self.wall_s, reference.wall_s)
        cpu = _ratios(self.cpu_s, reference.cpu_s)
        return {
            "wall_s": statistics.median(self.wall_s),
            "cpu_s": statistics.median(self.cpu_s),
            "wall_ratio": statistics.median(wall),
            "wall_ratio_lowest": min(wall),
            "wall_ratio_highest": max(wall),
            "cpu_ratio": statistics.median(cpu),
            "cpu_ratio_lowest": min(cpu),
            "cpu_ratio_highest": max(cpu),
        }


def interleaved(
    contenders: dict[str, Callable[[], object]], *, rounds: int, warm_up: int = 1
) -> dict[str, Timing]:
    """Run all contenders in turn, ``warm_up`` + ``rounds`` times; the warm-up is not counted."""
    timings = {name: Timing([], []) for name in contenders}
    for number in range(warm_up + rounds):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number >= warm_up:
                timings[name].wall_s.append(wall)
                timings[name].cpu_s.append(cpu)
    return timings


def _ratios(seconds: list[float], reference: list[float]) -> list[float]:
    return [own / other for own, other in zip(seconds, reference, strict=True)]
