"""Pairwise comparison of the networks of a results table on the chip."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analogmed.evaluation.statistics.intervals import difference, two_way_bootstrap
from analogmed.evaluation.statistics.paired_tests import holm, paired_test
from analogmed.evaluation.summaries.runs import NetworkRun, align_runs, network_runs
from analogmed.foundation.errors import DataError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.properties import difference_bounds
from analogmed.tables.results import MODEL
from analogmed.tables.robustness import COMPARISON


def compare_models(
    table: pd.DataFrame,
    *,
    metric: str = "dice",
    time_s: float = DAY_S,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the difference of each pair of networks on the chip, with interval and p-value.

    The interval covers the variation of patients and chips. Patients are paired. Chips are paired
    between trainings of one model, which are programmed on the same chips. The p-value is that of a
    sign-flip test over patients of the means over these chips. It does not generalise to other
    chips, so interpret it together with the interval. Holm's correction covers all pairs of one
    task and hardware.

    Args:
        table: long results table, columns ``COLUMNS``.
        metric: name in the ``metric`` column.
        time_s: age of the chips in s. Default: one day.
        n_boot: bootstrap samples per interval.
        level: confidence level in (0, 1) of each single interval.
        seed: root seed of the bootstrap and the permutations.

    Returns:
        One row per pair: ``difference`` is the mean of ``model``, ``training`` minus that of
        ``other_model``, ``other_training``.

    Raises:
        DataError: the table lacks a column or the metric, a network was not measured at this time,
            or two networks were evaluated on different cases.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2).
    """
    runs = list(network_runs(table, metric))
    if not runs:
        raise DataError(f"the results table has no {metric} on a chip")
    for run in runs:
        if np.isnan(run.at(time_s)).all():
            measured = (t for t, values in run.on_chip.items() if np.isfinite(values).any())
            known = ", ".join(f"{known_s:g}" for known_s in sorted(measured)) or "none"
            raise DataError(f"{_name(run)} has no {metric} at {time_s:g} s; it has: {known}")
    groups: dict[tuple[str, str], list[NetworkRun]] = {}
    for run in runs:
        groups.setdefault((run.key["task"], run.key["hardware"]), []).append(run)
    settings = {"n_boot": n_boot, "level": level}
    rows = []
    for group in groups.values():
        pairs = [_pair(*pair, time_s, seed, settings) for pair in combinations(group, 2)]
        adjusted = holm([float(pair["p_value"]) for pair in pairs])
        rows += [row | {"p_holm": p} for row, p in zip(pairs, adjusted, strict=True)]
    return COMPARISON.frame(rows)


def _pair(
    first: NetworkRun, second: NetworkRun, time_s: float, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    test = paired_test(
        _means_of_cases(first, time_s),
        _means_of_cases(second, time_s),
        patients=dict(zip(first.cases, first.patients, strict=True)),
        seed=derive_seed(seed, "permutation", first.key["task"]),
    )
    both = align_runs([first, second], time_s)
    interval = two_way_bootstrap(
        *both.arrays,
        patients=both.patients,
        statistic=difference,
        chip_sets=both.chip_sets,
        bounds=difference_bounds(first.metric),
        seed=derive_seed(seed, "bootstrap", first.key["task"]),
        **settings,
    )
    names = {name: first.key[name] for name in ("task", "hardware", *MODEL)}
    names |= {f"other_{name}": second.key[name] for name in MODEL}
    notes = dict.fromkeys(note for note in (interval.note, test.note) if note)
    return names | {
        "metric": first.metric,
        "time_s": time_s,
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "p_value": test.p_value,
        "n_patients": interval.n_patients,
        "n_chips": interval.n_chips,
        "level": settings["level"],
        "note": "; ".join(notes),
    }


def _means_of_cases(run: NetworkRun, time_s: float) -> dict[str, float]:
    means = pd.DataFrame(run.at(time_s)).mean(axis=1)
    return dict(zip(run.cases, means.tolist(), strict=True))


def _name(run: NetworkRun) -> str:
    return f"{run.key['model']}, {run.key['training']} on {run.key['hardware']}"
