"""Look-up table of operation times on a digital processor, and latency prediction of networks."""

import dataclasses
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy.stats import kendalltau
from torch import nn

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.process import processor_name
from analogmed.foundation.strict_yaml import dump_yaml, read_yaml
from analogmed.hardware.operations import FILL, KEY, Operation, Recorded
from analogmed.tables.hardware import DEVICE, OPERATIONS

_WARM_UP = 2
_SHOWN = 3
PROVENANCE = "provenance.yaml"
"""Name of the file that describes the measurement."""


@dataclass(frozen=True)
class Timing:
    """Execution time of an operation or a network.

    Attributes:
        median_s: median of the repetitions, in s.
        low_s: first quartile, in s.
        high_s: third quartile, in s.
        repetitions: number of timed runs, after a warm-up.
    """

    median_s: float
    low_s: float
    high_s: float
    repetitions: int


@dataclass(frozen=True)
class LookupTable:
    """Execution times of operations on one device.

    Attributes:
        timings: execution time by operation.
        provenance: description of the measurement; contains at least ``device``, ``threads`` and
            ``runtime``.
    """

    timings: Mapping[Operation, Timing]
    provenance: Mapping[str, Any]

    def predict_s(self, counts: Counter[Operation]) -> float:
        """Return the predicted time of a network in s: the sum over its operations.

        Args:
            counts: operation counts of :func:`analogmed.hardware.record`.

        Raises:
            DataError: an operation is missing from the table.
        """
        missing = [operation for operation in counts if operation not in self.timings]
        if missing:
            some = "; ".join(_describe(operation) for operation in missing[:_SHOWN])
            some += "; ..." if len(missing) > _SHOWN else ""
            raise DataError(
                f"the table of {self.provenance['device']} lacks {len(missing)} of "
                f"{len(counts)} operations ({some}): measure this network too, with "
                "analogmed hardware measure --model"
            )
        return sum(self.timings[operation].median_s * count for operation, count in counts.items())

    def write(self, folder: Path | str) -> None:
        """Write ``operations.csv`` and ``provenance.yaml``."""
        place = {name: self.provenance[name] for name in DEVICE}
        rows = [
            place
            | dataclasses.asdict(operation)
            | {
                "median_ms": 1e3 * timing.median_s,
                "low_ms": 1e3 * timing.low_s,
                "high_ms": 1e3 * timing.high_s,
                "repetitions": timing.repetitions,
            }
            for operation, timing in self.timings.items()
        ]
        table = OPERATIONS.frame(rows)
        folder = Path(folder)
        OPERATIONS.write(table, folder)
        text = dump_yaml(dict(self.provenance))
        write_text_atomically(folder / PROVENANCE, text)


def read_table(folder: Path | str) -> LookupTable:
    """Read a table written by :meth:`LookupTable.write`.

    Raises:
        DataError: the table is missing or damaged, or contains several devices.
        ConfigError: the provenance is not plain YAML.
    """
    path = Path(folder) / OPERATIONS.file
    if not path.is_file():
        raise DataError(f"{path}: no table of operations; make one with analogmed hardware measure")
    table = OPERATIONS.read(path.parent)
    if len(table[list(DEVICE)].drop_duplicates()) != 1:
        raise DataError(f"{path}: expected one device, number of threads and runtime")
    provenance = read_yaml(Path(folder) / PROVENANCE)
    for name in DEVICE:
        if str(provenance.get(name)) != table[name].iloc[0]:
            raise DataError(f"{path}: {name} differs from that in provenance.yaml")
    try:
        timings = {
            Operation(**{name: row[name] for name in KEY}): Timing(
                1e-3 * float(row["median_ms"]),
                1e-3 * float(row["low_ms"]),
                1e-3 * float(row["high_ms"]),
                int(row["repetitions"]),
            )
            for row in table.to_dict("records")
        }
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return LookupTable(timings, provenance)


def measure_operations(
    recorded: Sequence[Recorded], *, repetitions: int, progress: Callable[[int], None] | None = None
) -> dict[Operation, Timing]:
    """Time each operation of some networks separately on this machine.

    The operations run in rounds, so that none of them benefits from its own cached data and a slow
    phase of the machine affects all of them equally.

    Args:
        recorded: recorded operations of the networks.
        repetitions: number of timed runs of each operation, after a warm-up.
        progress: callback after each round with its number.
    """
    runs = {operation: run for each in recorded for operation, run in each.runs.items()}
    times: dict[Operation, list[float]] = {operation: [] for operation in runs}
    clock = _clock()
    with torch.inference_mode():
        for number in range(_WARM_UP + repetitions):
            for operation, prepare in runs.items():
                compute = prepare()
                start = clock()
                compute()
                times[operation].append(clock() - start)
            if progress is not None:
                progress(number)
    return {operation: _timing(found[_WARM_UP:]) for operation, found in times.items()}


def measure_networks(
    models: Sequence[nn.Module], input_shape: Sequence[int], *, repetitions: int
) -> list[Timing]:
    """Time whole networks on this machine in rounds."""
    times: list[list[float]] = [[] for _ in models]
    networks = [model.eval() for model in models]
    clock = _clock()
    with torch.inference_mode():
        for _ in range(_WARM_UP + repetitions):
            for model, found in zip(networks, times, strict=True):
                inputs = torch.full(tuple(input_shape), FILL)
                start = clock()
                model(inputs)
                found.append(clock() - start)
    return [_timing(found[_WARM_UP:]) for found in times]


@dataclass(frozen=True)
class Agreement:
    """Agreement between predictions and measurements.

    Attributes:
        mape: mean absolute error relative to the measurement.
        kendall_tau: rank correlation in [-1, 1]; NaN with fewer than two networks.
        networks: number of networks.
    """

    mape: float
    kendall_tau: float
    networks: int


def agreement(predicted_s: Sequence[float], measured_s: Sequence[float]) -> Agreement:
    """Compare predicted times of networks with measured times.

    Raises:
        ConfigError: the sequences are empty or differ in length.
    """
    if not predicted_s or len(predicted_s) != len(measured_s):
        raise ConfigError(
            f"expected as many predictions as measurements, found {len(predicted_s)} and "
            f"{len(measured_s)}"
        )
    errors = [abs(p - m) / m for p, m in zip(predicted_s, measured_s, strict=True)]
    several = len(errors) > 1
    tau = float(kendalltau(predicted_s, measured_s).statistic) if several else float("nan")
    return Agreement(statistics.fmean(errors), tau, len(errors))


def describe_machine() -> dict[str, Any]:
    """Return the conditions of a measurement: machine, operating system, versions, threads."""
    return {
        "device": _device_name(),
        "threads": torch.get_num_threads(),
        "runtime": f"torch {torch.__version__}",
        "clock": _clock().__name__,
        "processor": processor_name(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _clock() -> Callable[[], float]:
    """Return a clock; with one thread, CPU time, which other programs do not lengthen."""
    fine = time.get_clock_info("process_time").resolution <= 1e-6
    return time.process_time if torch.get_num_threads() == 1 and fine else time.perf_counter


def _describe(operation: Operation) -> str:
    return f"{operation.operation} {operation.kernel} on {operation.arguments.split(';')[0]}"


def _timing(times_s: Sequence[float]) -> Timing:
    series = pd.Series(times_s)
    low, median, high = (float(series.quantile(share)) for share in (0.25, 0.5, 0.75))
    return Timing(median, low, high, len(times_s))


def _device_name() -> str:
    """Return the name of the single-board computer or the processor."""
    try:
        return Path("/proc/device-tree/model").read_text().rstrip("\0\n")
    except OSError:
        return processor_name()
