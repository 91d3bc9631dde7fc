"""Tables of a search: candidates, Pareto front, and the networks nearest to the constraints."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial

from analogmed.metrics.registry import PRIMARY
from analogmed.models import Genotype
from analogmed.report.figures.search import pareto_front, search_history
from analogmed.search.objectives import NOT_SCORED, Goal, objectives_of
from analogmed.search.space.space import Space
from analogmed.search.strategy import METRICS_ATTRIBUTE
from analogmed.search.trials.queue import COPY_OF, ERROR, SECONDS, WORKER, TrialStatus
from analogmed.tables.search import CANDIDATES, FRONT

_LEADING = {
    "number": "int64",
    "status": "string",
    "network": "string",
    "key": "string",
}
_TRAILING = {
    "violation": "float64",
    "feasible": "boolean",
    "on_front": "bool",
    "seconds": "float64",
    "worker": "string",
    "copy_of": "Int64",
    "error": "string",
    "genotype": "string",
}
FIGURES = ("figures/pareto.png", "figures/history.png")
"""Pareto front and history of a search, relative to its folder."""


def trial_folder(folder: Path, number: int, genotype: Genotype) -> Path:
    """Return the folder of a candidate in a run folder."""
    return folder / "trials" / f"{number:04d}-{genotype.key}"


def candidates_of(
    study: Study, space: Space, goal: Goal, *, primary: str = PRIMARY
) -> pd.DataFrame:
    """Return the table of all proposed networks, with their metrics and status.

    Args:
        study: study of the search.
        space: search space of the networks.
        goal: goal that determines the feasible networks and the Pareto front.
        primary: primary metric of the task.

    Returns:
        One row per trial: the estimates of the primary metric, the metrics that are not scores,
        the estimates of further metrics of the goal, and the status. ``violation`` is the sum by
        which constraints are broken, each as a share of its bound; ``feasible`` is unknown where a
        constraint's metric is; ``on_front`` is true of evaluated feasible networks that no other
        one equals or exceeds in all objectives and exceeds in one.
    """
    genes = space.genes.keys()
    trials = [t for t in study.get_trials(deepcopy=False) if genes <= t.params.keys()]
    metrics = _metrics(goal, primary)
    columns = {**_LEADING, **dict.fromkeys(metrics, "float64"), **_TRAILING}
    table = pd.DataFrame([_row(t, space, goal, metrics) for t in trials], columns=list(columns))
    table = table.astype(columns)
    members = (table["status"] == TrialStatus.EVALUATED.value) & table["feasible"].fillna(False)
    losses = _losses(table[members], goal)
    table.loc[members, "on_front"] = _undominated(losses)
    return table


def front_of(candidates: pd.DataFrame, goal: Goal) -> pd.DataFrame:
    """Return the rows of the Pareto front, the best by the first objective first."""
    members = candidates[candidates["on_front"]]
    return members.iloc[np.argsort(_losses(members, goal)[:, 0], kind="stable")]


def nearest_of(candidates: pd.DataFrame, goal: Goal, most: int = 5) -> pd.DataFrame:
    """Return the networks with the smallest violations, the smallest first; each once.

    Args:
        candidates: table of :func:`candidates_of`.
        goal: goal with the constraints.
        most: largest number of rows.
    """
    known = candidates[candidates["violation"] > 0].drop_duplicates("key")
    metrics = [constraint.metric for constraint in goal.constraints]
    columns = list(dict.fromkeys(["number", "network", *metrics, "violation"]))
    return known.nsmallest(most, "violation")[columns]


def write_results(folder: Path, candidates: pd.DataFrame, goal: Goal) -> None:
    """Write ``candidates.csv`` and ``.parquet``, ``front.csv`` and the figures.

    Args:
        folder: run folder.
        candidates: table of :func:`candidates_of`.
        goal: goal of the search.
    """
    CANDIDATES.write(candidates, folder)
    front = front_of(candidates, goal)
    checkpoints = [
        f"trials/{number:04d}-{key}/hwa"
        for number, key in zip(front["number"], front["key"], strict=True)
    ]
    FRONT.write(front.assign(checkpoint=checkpoints), folder)
    evaluated = candidates[candidates["status"] == TrialStatus.EVALUATED.value]
    if evaluated.empty:
        return
    front_figure, history_figure = (folder / name for name in FIGURES)
    pareto_front(evaluated, front_figure, objectives=goal.objectives)
    search_history(evaluated, history_figure, objectives=goal.objectives)


def _metrics(goal: Goal, primary: str) -> tuple[str, ...]:
    """Return the metrics of the table: those of every search, and estimates of further metrics."""
    further = (objectives_of(name, primary=False) for name in goal.estimated if name != primary)
    names = (*objectives_of(primary), *NOT_SCORED, *(name for names in further for name in names))
    return tuple(dict.fromkeys((*names, *goal.metrics)))


def _row(trial: FrozenTrial, space: Space, goal: Goal, names: tuple[str, ...]) -> dict[str, object]:
    attributes = trial.user_attrs
    metrics: Mapping[str, float] = attributes.get(METRICS_ATTRIBUTE, {})
    genotype = space.decode(trial.params)
    known = [c.violation(metrics) for c in goal.constraints if c.metric in metrics]
    broken = sum(max(violation, 0.0) for violation in known)
    feasible = False if broken else (True if len(known) == len(goal.constraints) else None)
    return {
        "number": trial.number,
        "status": TrialStatus.of(trial).value,
        "network": str(genotype),
        "key": genotype.key,
        **{name: metrics.get(name) for name in names},
        "violation": broken if known else None,
        "feasible": feasible if metrics else None,
        "on_front": False,
        "seconds": attributes.get(SECONDS),
        "worker": attributes.get(WORKER),
        "copy_of": attributes.get(COPY_OF),
        "error": attributes.get(ERROR),
        "genotype": genotype.to_json(),
    }


def _losses(rows: pd.DataFrame, goal: Goal) -> np.ndarray:
    """Return the objectives as numbers to minimise, shape (rows, objectives)."""
    signs = [1.0 if direction == "minimize" else -1.0 for direction in goal.directions]
    values = rows[list(goal.objectives)].to_numpy(dtype=np.float64)
    return np.asarray(values * signs)


def _undominated(losses: np.ndarray) -> np.ndarray:
    """Return the rows that no other row equals in all columns and exceeds in one, as a mask."""
    no_worse = np.all(losses[:, None] <= losses[None], axis=-1)
    better = np.any(losses[:, None] < losses[None], axis=-1)
    return np.asarray(~np.any(no_worse & better, axis=0))
