"""Number of patients and chips required for an interval of a given width."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analogmed.evaluation.statistics.crossed_values import by_patient
from analogmed.foundation.errors import DataError, ShapeError
from analogmed.foundation.settings.checks import require_number, require_whole

CASES = (5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200)
CHIPS = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50)


@dataclass(frozen=True)
class VarianceComponents:
    """Standard deviations of a value on the chip by source of variation, in the metric's unit.

    The value of a patient is the mean over the patient's cases. Patients are weighted by their
    number of cases, as in the mean over all cases.

    Attributes:
        patient: standard deviation between patients.
        chip: standard deviation between chips.
        residual: standard deviation of one patient on one chip beyond these two.
        read: standard deviation between reads of one patient on one chip; 0 for a pilot with a
            single read, where it is part of ``residual``.
        n_patients: number of patients of the pilot.
        n_chips: number of its chips.
    """

    patient: float
    chip: float
    residual: float
    read: float
    n_patients: int
    n_chips: int


def variance_components(
    values: np.ndarray,
    *,
    patients: Sequence[object],
    read_std: float = 0.0,
    n_reads: int = 1,
) -> VarianceComponents:
    """Estimate the variance components of a crossed pilot, with every case run on every chip.

    Args:
        values: value of each case and chip, averaged over reads, shape (cases, chips); for a
            drop or a gain, the differences. Chips without any value are excluded first, then cases
            with an undefined value.
        patients: patient of each case.
        read_std: standard deviation between reads of one patient's mean on one chip.
        n_reads: number of reads averaged in each value.

    Raises:
        ShapeError: the values are not a table of cases and chips.
        DataError: fewer than two patients or two chips.

    Source: Searle, Casella and McCulloch 1992, Variance Components: the analysis-of-variance
    estimates of the two-way crossed random model, negative ones set to 0.
    """
    if values.ndim != 2 or len(values) != len(patients):
        raise ShapeError(f"expected shape ({len(patients)}, chips), but found {values.shape}")
    values = values[:, ~np.isnan(values).all(axis=0)]
    complete = ~np.isnan(values).any(axis=1)
    kept = [patient for patient, whole in zip(patients, complete, strict=True) if whole]
    sums, counts = by_patient(values[complete], kept)
    n, m = sums.shape
    if n < 2 or m < 2:
        raise DataError(
            f"a pilot needs at least 2 patients and 2 chips with all values, but has {n} and {m}"
        )
    relative = counts / counts.mean(axis=0)
    columns = sums.sum(axis=0) / counts.sum(axis=0)
    cells = relative * (sums / counts - columns)
    rows = cells.mean(axis=1)
    columns = columns - columns.mean()
    left = cells - rows[:, None]
    square = float((left**2).sum()) / ((n - 1) * (m - 1))
    found = {
        "patient": float(rows @ rows) / (n - 1) - square / m,
        "chip": float(columns @ columns) / (m - 1) - square / n,
        "residual": square - read_std**2 / n_reads,
    }
    stds = {name: float(np.sqrt(max(variance, 0.0))) for name, variance in found.items()}
    return VarianceComponents(**stds, read=read_std, n_patients=n, n_chips=m)


def expected_width(
    components: VarianceComponents, cases: int, chips: int, *, reads: int = 1, level: float = 0.95
) -> float:
    """Compute the expected width of the two-way interval of a mean, upper minus lower end.

    Args:
        components: variance components of a pilot.
        cases: number of patients, with the same number of cases per patient as the pilot.
        chips: number of chips.
        reads: number of reads of each case on each chip.
        level: confidence level in (0, 1).
    """
    cell = (components.residual**2 + components.read**2 / reads) / (cases * chips)
    by_patients = components.patient**2 / cases + cell
    by_chips = components.chip**2 / chips + cell
    t_patients, t_chips = stats.t.ppf(0.5 * (1.0 + level), [cases - 1, chips - 1])
    return float(2.0 * np.sqrt(t_patients**2 * by_patients + t_chips**2 * by_chips))


def plan_size(
    components: VarianceComponents,
    width: float,
    *,
    cases: Sequence[int] = CASES,
    chips: Sequence[int] = CHIPS,
    reads: int = 1,
    level: float = 0.95,
    cost_per_chip: float = 0.0,
    cost_per_read: float = 1.0,
) -> pd.DataFrame:
    """Compute the expected width and cost of each number of patients and chips.

    Args:
        components: variance components of a pilot.
        width: required width, upper minus lower end of the interval.
        cases: numbers of patients to evaluate, at least 2 each, with the same number of cases per
            patient as the pilot.
        chips: numbers of chips to evaluate, at least 2 each.
        reads: number of reads of each case on each chip.
        level: confidence level in (0, 1).
        cost_per_chip: cost of programming a chip, in any unit.
        cost_per_read: cost of one read of one patient's cases on one chip, in the same unit.

    Returns:
        One row per combination: ``cases``, ``chips``, ``width``, ``cost``, ``enough`` and
        ``cheapest``, which marks the sufficient combinations of the smallest cost.

    Raises:
        ConfigError: the width is not positive, or there are fewer than two cases or chips.
    """
    require_number("width", width, above=0)
    for name, numbers in (("cases", cases), ("chips", chips)):
        for number in numbers:
            require_whole(name, number, least=2)
    rows = [
        {
            "cases": n,
            "chips": m,
            "width": expected_width(components, n, m, reads=reads, level=level),
            "cost": m * (cost_per_chip + n * reads * cost_per_read),
        }
        for n in cases
        for m in chips
    ]
    plan = pd.DataFrame(rows)
    plan["enough"] = plan["width"] <= width
    least = plan.loc[plan["enough"], "cost"].min()
    plan["cheapest"] = plan["enough"] & (plan["cost"] == least)
    return plan
