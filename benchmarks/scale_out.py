"""Scaling of a sweep over processes: the same units with one and with several local workers.

    python benchmarks/scale_out.py [--workers 1 2] [--chips 100] [--rounds 3] [--json FILE]
                                   [--figure FILE]

Each number of workers runs the whole sweep in turn, round by round, into a new folder, so that
other load on the machine affects all of them. "whole" is the time from the call to the written
tables, including the start of the processes. "units a second" is measured between the first and the
last finished unit. One worker computes in this process with one thread, as each of several workers
does. The results of all runs are compared byte by byte.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from _sweeps import SHIPPED, begun, finish, parser

from analogmed.config import EngineConfig, Experiment, SweepConfig, TaskConfig
from analogmed.evaluation import evaluate
from analogmed.foundation.files import write_atomically
from analogmed.foundation.time_constants import DAY_S
from analogmed.report.text_table import pipe_table


def main() -> None:
    """Measure, print the table, and write JSON and figure if requested."""
    arguments = _arguments()
    document = begun("scale_out", arguments)
    runs: dict[int, list[dict[str, float]]] = {workers: [] for workers in arguments.workers}
    contents: list[dict[str, bytes]] = []
    for _ in range(arguments.rounds):
        for workers in arguments.workers:
            measured, content = measure(workers, arguments)
            runs[workers].append(measured)
            contents.append(content)
    rows = [_row(workers, runs, arguments.workers[0]) for workers in arguments.workers]
    same = all(content == contents[0] for content in contents)
    document |= {"same_bytes": same, "rows": rows}
    finish(document, as_table(rows), arguments.json, times=2, end=f"same bytes: {same}")
    if arguments.figure:
        write_atomically(arguments.figure, lambda path: _draw(rows, path))


def measure(
    workers: int, arguments: argparse.Namespace
) -> tuple[dict[str, float], dict[str, bytes]]:
    """Return times and file contents of one sweep into a new folder."""
    with tempfile.TemporaryDirectory() as name:
        experiment = Experiment(
            task=TaskConfig(root=arguments.root, options=json.loads(arguments.task_options)),
            checkpoints=tuple(arguments.checkpoints or [SHIPPED / "unet-hwa.safetensors"]),
            sweep=SweepConfig(chips=arguments.chips, times_s=(0.0, DAY_S)),
            engine=EngineConfig(workers=workers),
            out=Path(name),
        )
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = evaluate(experiment)
        whole_s = time.perf_counter() - start
        files = sorted((Path(name) / "units").iterdir())
        ends = [path.stat().st_mtime for path in files]
        measured = {
            "units": float(found.units),
            "whole_s": whole_s,
            "units_per_s": (len(ends) - 1) / (max(ends) - min(ends)),
            "store_bytes": float(sum(path.stat().st_size for path in files)),
        }
        tables = [*files, Path(name) / "results.parquet"]
        return measured, {path.name: path.read_bytes() for path in tables}


def _row(workers: int, runs: dict[int, list[dict[str, float]]], reference: int) -> dict[str, Any]:
    own, other = runs[workers], runs[reference]
    ratios = [o["whole_s"] / s["whole_s"] for s, o in zip(own, other, strict=True)]
    rates = [s["units_per_s"] / o["units_per_s"] for s, o in zip(own, other, strict=True)]
    middle = {name: statistics.median(run[name] for run in own) for name in own[0]}
    return {
        "workers": workers,
        **middle,
        "speed_up": statistics.median(ratios),
        "speed_up_range": [min(ratios), max(ratios)],
        "rate_ratio": statistics.median(rates),
        "rate_ratio_range": [min(rates), max(rates)],
    }


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows in Markdown."""
    heads = (
        "workers",
        "units",
        "whole s",
        "x faster (spread)",
        "units a s",
        "x (spread)",
        "kB a unit",
    )
    cells = [
        (
            f"{row['workers']}",
            f"{row['units']:.0f}",
            f"{row['whole_s']:.1f}",
            f"{row['speed_up']:.2f} ({_span(row['speed_up_range'])})",
            f"{row['units_per_s']:.2f}",
            f"{row['rate_ratio']:.2f} ({_span(row['rate_ratio_range'])})",
            f"{row['store_bytes'] / row['units'] / 1e3:.1f}",
        )
        for row in rows
    ]
    return pipe_table(heads, cells, 0)


def _span(ends: list[float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    workers = [row["workers"] for row in rows]
    figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    axes.plot(workers, workers, color="0.6", linestyle="--", label="ideal")
    for name, label, marker in (
        ("rate_ratio", "units a second", "o"),
        ("speed_up", "whole run, with starting up", "s"),
    ):
        values = [row[name] for row in rows]
        spread = [
            [row[name] - row[f"{name}_range"][0] for row in rows],
            [row[f"{name}_range"][1] - row[name] for row in rows],
        ]
        axes.errorbar(workers, values, yerr=spread, marker=marker, capsize=3, label=label)
    axes.set(xlabel="local workers", ylabel=f"times that of {workers[0]}", xticks=workers)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _arguments() -> argparse.Namespace:
    options = parser(__doc__, chips=100)
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options.add_argument("--root", type=Path, help="folder of the phantom; the cache by default")
    options.add_argument("--figure", type=Path, help="file for the scaling figure")
    return options.parse_args()


if __name__ == "__main__":
    main()
