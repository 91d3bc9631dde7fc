"""Supernetworks for the space and data of a benchmark table, trained with the table's settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from _programs import run_program

from analogmed.cli.options import to_options
from analogmed.config import TaskConfig
from analogmed.foundation.settings.plain import from_plain
from analogmed.models import Genotype
from analogmed.search.benchmark.rank_agreement import rank_agreement
from analogmed.search.benchmark.table import BenchmarkTable
from analogmed.search.supernet.settings import MiasLossConfig, SupernetConfig
from analogmed.search.supernet.weights import SharedWeights, refuse_leakage
from analogmed.training import LoadingConfig, OptimizerConfig

EPOCHS = 60
RULES: dict[str, dict[str, Any]] = {
    "SPOS": {"rule": "spos"},
    "FairNAS": {"rule": "fairnas"},
    "ours": {
        "rule": "spos",
        "paths": 10,
        "loss": MiasLossConfig(cross_entropy=0.7, latency=0.3),
    },
}
"""Settings of supernetwork training by the name of its rule; ``ours`` uses the MIAS loss."""


def table_task(bench: BenchmarkTable, task: str) -> TaskConfig:
    """Return the data of a table's task, with the split on which its networks were tested."""
    given = {name: value for name, value in bench.about["tasks"][task].items() if value is not None}
    return from_plain(TaskConfig, given, f"benchmark table, task {task}")


def train_supernet(
    bench: BenchmarkTable, task: str, folder: Path, *, rule: str, epochs: int, **settings: Any
) -> None:
    """Train a supernetwork for a table's space on the training patients of one of its tasks.

    Args:
        bench: benchmark table.
        task: name of a task of the table.
        folder: run folder; a finished training in it is not repeated.
        rule: key of :data:`RULES`.
        epochs: number of training epochs.
        **settings: further fields of :class:`SupernetConfig`.
    """
    candidate = bench.about["candidates"][task]
    loading = {name: candidate["loading"][name] for name in ("augment", "patches_per_image")}
    config = SupernetConfig(
        task=table_task(bench, task),
        space=bench.space,
        epochs=epochs,
        batch_size=candidate["batch_size"],
        optimizer=OptimizerConfig(
            learning_rate=candidate["optimizer"]["learning_rate"], ema=SupernetConfig.optimizer.ema
        ),
        loading=LoadingConfig(**loading),
        out=folder,
        **RULES[rule],
        **settings,
    )
    run_program("search", ["supernet", *to_options(config)])


def refuse_tested(bench: BenchmarkTable, folders: Mapping[str, Path]) -> None:
    """Raise for supernetworks of tasks that are not in a table, or trained on its test patients.

    Args:
        bench: benchmark table.
        folders: run folders by task.

    Raises:
        SystemExit: a task is not in the table; the message names the supernetwork.
        LeakageError: names the supernetwork and the patients.
    """
    for task in folders:
        if task not in bench.tasks:
            raise SystemExit(
                f"{folders[task]}: {bench.path} has no task '{task}'; "
                f"choose from: {', '.join(bench.tasks)}"
            )
    for task in bench.tasks if folders else ():
        refuse_leakage(set(folders.values()), table_task(bench, task).load())


def ranked_by_shared_weights(
    bench: BenchmarkTable, folders: Mapping[str, Path], n_boot: int
) -> pd.DataFrame:
    """Return Kendall's tau-b between shared-weight scores and stand-alone scores of the networks.

    Args:
        bench: benchmark table; all its networks of a task are scored.
        folders: run folders of supernetworks by task.
        n_boot: number of bootstrap samples of networks for the interval.

    Returns:
        columns ``task``, ``stand_alone``, ``value``, ``low``, ``high``, ``n``.
    """
    rows = []
    for task, folder in folders.items():
        shared = SharedWeights.load(folder)
        for name, training, metric in (
            ("digital", "digital", "dice_digital"),
            ("1 day", "hwa", "dice_1d"),
        ):
            networks = bench.networks(task, training=training)
            scores = [shared.score(Genotype.of(text), task) for text in networks["genotype"]]
            found = rank_agreement(scores, networks[metric].to_numpy(float), n_boot=n_boot)
            row = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
            rows.append({"task": task, "stand_alone": name, **row})
    return pd.DataFrame(rows)
