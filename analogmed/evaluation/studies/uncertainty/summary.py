"""Summary tables of the uncertainty measurement: means with intervals, and comparisons."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analogmed.evaluation.statistics.intervals import LEVEL, N_BOOT, ratio, two_way_bootstrap
from analogmed.evaluation.statistics.paired_tests import holm, paired_test
from analogmed.evaluation.studies.uncertainty.calibration import (
    pooled_calibration_error,
    rank_correlation,
)
from analogmed.evaluation.studies.uncertainty.scores import Scores
from analogmed.foundation.seeds import derive_seed
from analogmed.metrics.properties import bounds_of, difference_bounds
from analogmed.metrics.registry import is_metric
from analogmed.tables.uncertainty import ADDRESS, COMPARISON

WHERE = [*ADDRESS, "region"]
COMPARED = (
    "mean_variance", "mean_entropy", "ece", "nll", "brier", "auroc_entropy", "aurc_entropy",
)  # fmt: skip
CASE_MEASURES = {"mean_entropy": "dice_correlation",
                 "entropy_per_foreground": "dice_correlation_per_foreground"}  # fmt: skip


def summarise_uncertainty(scores: Scores, *, seed: int = 0) -> pd.DataFrame:
    """Summarise each network, source, time, region and metric, with an interval over patients.

    Metrics of cases are averaged over them. Of classified images, the regions are all images and
    each class, and the values of cases are contributions to scores of all images. Three metrics
    describe the whole test set.
    ``ece_pooled`` is the calibration error of all voxels together. ``dice_correlation`` and
    ``dice_correlation_per_foreground`` are Spearman's rank correlation over cases between Dice and
    the entropy of the image: its mean, or its sum divided by the size of the mask. A useful
    uncertainty correlates negatively. The mean also grows with the structure, the second does not.

    Args:
        scores: scores of all cases.
        seed: root seed of the bootstrap; all rows share the draw of patients.
    """
    seed = derive_seed(seed, "uncertainty")
    table = scores.table()
    rows = [
        {**where, "metric": metric, **_mean(str(metric), part, seed)}
        for where, cases in _groups(table, WHERE)
        for metric, part in cases.groupby("metric", sort=False)
    ]
    rows += [
        {**where, "region": "image", "metric": name, **_correlation(cases, measure, seed)}
        for where, cases in _groups(table[table["region"] == "image"], list(ADDRESS))
        for measure, name in CASE_MEASURES.items()
        if {measure, "dice"} <= set(cases["metric"])
    ]
    rows += _pooled(scores, seed)
    return pd.DataFrame(rows)


def compare_trainings(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Compute hardware-aware minus digital training of each model, on the same cases.

    Args:
        table: long table.
        seed: seed of the bootstrap and the permutations.

    Returns:
        One row per task, model, source, time, region and metric, which is the primary one of the
        task or of ``COMPARED``: the difference,
        its interval over patients, and the p-value of a paired permutation test. ``p_holm`` is
        corrected for the number of models in the same comparison. Neither p-value is corrected for
        the number of sources, times, regions and metrics. Empty if no model has both trainings.
    """
    seed = derive_seed(seed, "uncertainty")
    keys = [name for name in (*WHERE, "metric") if name != "training"]
    rows = []
    scores = [name for name in table["metric"].unique() if is_metric(name)]
    chosen = table[table["metric"].isin([*COMPARED, *scores])]
    for where, part in _groups(chosen, keys):
        wide = part.pivot(index=["case", "patient"], columns="training", values="value")
        if not {"digital", "hwa"} <= set(wide.columns):
            continue
        difference = wide["hwa"] - wide["digital"]
        patients = list(wide.index.get_level_values("patient"))
        found = two_way_bootstrap(
            difference.to_numpy(float),
            patients=patients,
            bounds=difference_bounds(str(where["metric"])),
            n_boot=N_BOOT,
            level=LEVEL,
            seed=seed,
        )
        by_case = wide.droplevel("patient")
        test = paired_test(
            _by_case(by_case["hwa"]),
            _by_case(by_case["digital"]),
            patients=dict(zip(map(str, by_case.index), map(str, patients), strict=True)),
            seed=seed,
        )
        rows.append(
            {
                **where,
                "digital": wide["digital"].mean(),
                "hwa": wide["hwa"].mean(),
                **found.cells("difference"),
                "p_value": test.p_value,
                "n_patients": found.n_patients,
                "level": LEVEL,
            }
        )
    compared = COMPARISON.frame(rows)
    return compared.assign(p_holm=_over_models(compared))


def _over_models(rows: pd.DataFrame) -> pd.Series:
    """Apply Holm's correction to the p-values of the models in the same comparison."""
    same = rows.groupby(["task", "source", "time_s", "region", "metric"], dropna=False, sort=False)
    return same["p_value"].transform(lambda p_values: holm(p_values.to_list()))


def _by_case(values: pd.Series) -> dict[str, float]:
    return {str(case): float(value) for case, value in values.items()}


def _groups(table: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    for key, part in table.groupby(keys, dropna=False, sort=False):
        yield dict(zip(keys, key, strict=True)), part


def _mean(metric: str, part: pd.DataFrame, seed: int) -> dict[str, Any]:
    found = two_way_bootstrap(
        part["value"].to_numpy(float),
        patients=list(part["patient"]),
        bounds=bounds_of(metric),
        n_boot=N_BOOT,
        level=LEVEL,
        seed=seed,
    )
    return _row(found.estimate, found.low, found.high, found.n_patients)


def _correlation(cases: pd.DataFrame, measure: str, seed: int) -> dict[str, Any]:
    wide = cases.pivot(index=["case", "patient"], columns="metric", values="value")
    wide = wide[np.isfinite(wide["dice"]) & np.isfinite(wide[measure])]
    dice, other = wide["dice"].to_numpy(float), wide[measure].to_numpy(float)
    patients, index = np.unique(wide.index.get_level_values("patient"), return_inverse=True)
    members = [np.flatnonzero(index == patient) for patient in range(len(patients))]

    def of(draws: np.ndarray) -> np.ndarray:
        chosen = [np.concatenate([members[patient] for patient in drawn]) for drawn in draws]
        return np.array([rank_correlation(other[cases], dice[cases]) for cases in chosen])

    return _over_patients(of, len(patients), seed, n_boot=N_BOOT // 4)


def _pooled(scores: Scores, seed: int) -> list[dict[str, Any]]:
    grouped: dict[Any, list[np.ndarray]] = {}
    for (address, region, _), counts in scores.reliability.items():
        grouped.setdefault((address, region), []).append(counts)
    rows = []
    for (address, region), parts in grouped.items():
        where = {**dict(zip(ADDRESS, address, strict=True)), "region": region}
        rows.append({**where, "metric": "ece_pooled", **_calibration(np.stack(parts), seed)})
    return rows


def _calibration(counts: np.ndarray, seed: int) -> dict[str, Any]:
    """Compute the calibration error of all voxels together, with its interval over patients.

    The error is a sum of absolute gaps. Sampling noise increases it in bins with a small gap, so
    that it is biased upwards. The upper end is that of the gaps with their present signs. The
    lower end also allows for the gap of each bin to be due to chance: the error exceeds the true
    one by at most the sum over bins of the absolute deviations of the gaps.

    Args:
        counts: reliability counts of each patient, shape (patients, bins, 3).
        seed: seed of the bootstrap.
    """
    estimate, n = pooled_calibration_error(counts.sum(axis=0)), len(counts)
    gaps, voxels = counts[..., 1] - counts[..., 2], counts[..., 0].sum(axis=1)
    signed = two_way_bootstrap(
        gaps @ np.sign(gaps.sum(axis=0)),
        voxels,
        patients=range(n),
        statistic=ratio,
        bounds=bounds_of("ece_pooled"),
        n_boot=N_BOOT,
        level=LEVEL,
        seed=seed,
    )
    if not np.isfinite(signed.low):
        return _row(estimate, np.nan, np.nan, n)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=N_BOOT)
    drawn = weights @ voxels
    means = (weights @ gaps)[drawn > 0] / drawn[drawn > 0, None]
    chance = np.abs(means - gaps.sum(axis=0) / voxels.sum()).sum(axis=1)
    quantile = 0.5 * (1.0 + LEVEL)
    of_few = np.sqrt(n / (n - 1)) * stats.t.ppf(quantile, n - 1) / stats.norm.ppf(quantile)
    low = estimate - of_few * float(np.percentile(chance, 100.0 * quantile))
    return _row(estimate, max(min(low, signed.low), 0.0), signed.high, n)


def _over_patients(
    statistic: Callable[[np.ndarray], np.ndarray],
    n_patients: int,
    seed: int,
    *,
    n_boot: int = N_BOOT,
) -> dict[str, Any]:
    """Compute a statistic of patients that is not a mean, with its percentile interval."""
    if not n_patients:
        return _row(np.nan, np.nan, np.nan, 0)
    estimate = float(statistic(np.arange(n_patients)[None])[0])
    if n_patients < 2:
        return _row(estimate, np.nan, np.nan, n_patients)
    rng = np.random.default_rng(seed)
    values = statistic(rng.integers(0, n_patients, (n_boot, n_patients)))
    values = values[np.isfinite(values)]
    if not len(values):
        return _row(estimate, np.nan, np.nan, n_patients)
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return _row(estimate, float(low), float(high), n_patients)


def _row(estimate: float, low: float, high: float, n_patients: int) -> dict[str, Any]:
    return {
        "estimate": estimate,
        "low": low,
        "high": high,
        "n_patients": n_patients,
        "level": LEVEL,
    }
