"""Conformal predictions on drifting chips: risk of thresholds calibrated at different times.

A mask marks voxels of a structure; a label set marks the images that may have a class.

Three calibrations are compared: on the digital network (``digital``), on each chip at the first
time of the sweep (``first``), and on each chip again at each time (``each``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from analogmed.data import Sample, Task
from analogmed.evaluation.passes import Pass
from analogmed.evaluation.statistics.intervals import two_way_bootstrap
from analogmed.evaluation.studies.uncertainty.conformal import (
    THRESHOLDS,
    MaskCounts,
    RiskControl,
    control_risk,
    control_risk_without_each,
)
from analogmed.metrics.properties import bounds_of
from analogmed.tables.results import NETWORK

_WHERE = [*NETWORK, "calibrated", "time_s", "class"]
VALUES = ("fnr", "marked_share", "volume_ratio")
_DIGITAL = -1.0


class ConformalCounts:
    """Counts of every pass of one network, by time, chip, class and patient.

    ``counts`` has the keys time (-1 without a chip), chip, read, class index and patient.

    The cases of a patient are pooled. The missed shares of the reads of a chip are averaged, which
    keeps the loss bounded and monotone.

    Args:
        task: task with the names of the classes.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.counts: dict[tuple[float, int, int, int, str], MaskCounts] = {}

    def observe(self, one: Pass, sample: Sample, prob: Tensor) -> None:
        """Add the probabilities of one case in one pass."""
        values, kind = prob.cpu().numpy(), self.task.kind
        time_s = _DIGITAL if np.isnan(one.time_s) else one.time_s
        for index in range(1, len(self.task.classes) + 1):
            found, present = kind.of_class(values, sample.label, index - 1)
            key = (time_s, one.chip, one.read, index, sample.case.patient_id)
            counts = MaskCounts.of(found, present)
            self.counts[key] = self.counts[key] + counts if key in self.counts else counts

    def merge(self, other: "ConformalCounts") -> None:
        """Add the counts of passes at other times."""
        self.counts |= other.counts

    def evaluate(
        self, calibration: Sequence[str], test: Sequence[str], alpha: float, *, leave_one_out: bool
    ) -> list[dict[str, object]]:
        """Compute thresholds and the shares of voxels that they miss.

        Args:
            calibration: patients for calibrating the threshold.
            test: patients for testing the threshold.
            alpha: accepted expected share of missed voxels.
            leave_one_out: whether the other test patients are used for calibration too.

        Returns:
            One row per calibration, time, chip, class and test patient. Of masks, there are rows of
            patients with the structure only. Of classified images, there are rows of all patients,
            since images without the class may be marked, too; they have no volume.
        """
        rows: list[dict[str, object]] = []
        for time_s in sorted({key[0] for key in self.counts}):
            for calibrated, set_at_s in self._settings(time_s):
                for chip in sorted({key[1] for key in self.counts if key[0] == time_s}):
                    rows += self._of_chip(
                        calibrated, set_at_s, time_s, chip,
                        calibration, test, alpha, leave_one_out,
                    )  # fmt: skip
        return rows

    def _settings(self, time_s: float) -> list[tuple[str, float]]:
        """Return the calibrations of a threshold for a time, and the times of calibration."""
        times = {key[0] for key in self.counts}
        ways = [("digital", _DIGITAL)] if _DIGITAL in times else []
        if time_s != _DIGITAL:
            ways += [("first", min(times - {_DIGITAL})), ("each", time_s)]
        return ways

    def _of_chip(
        self,
        calibrated: str,
        set_at_s: float,
        time_s: float,
        chip: int,
        calibration: Sequence[str],
        test: Sequence[str],
        alpha: float,
        leave_one_out: bool,
    ) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        is_mask = self.task.kind.has_masks
        set_on = 0 if set_at_s == _DIGITAL else chip
        for index, name in enumerate(self.task.classes, start=1):
            units = [self._loss(set_at_s, set_on, index, patient) for patient in calibration]
            if leave_one_out:
                own = [self._loss(set_at_s, set_on, index, patient) for patient in test]
                controls = control_risk_without_each(own, units, alpha)
            else:
                controls = [control_risk(units, alpha)] * len(test)
            for patient, control in zip(test, controls, strict=True):
                counts = self._reads(time_s, chip, index, patient)
                if not counts or (is_mask and not counts[0].structure):
                    continue
                rows.append(
                    {
                        "calibrated": calibrated,
                        "time_s": np.nan if time_s == _DIGITAL else time_s,
                        "chip": pd.NA if time_s == _DIGITAL else chip,
                        "class": name,
                        "patient": patient,
                        **_outcome(control, counts, has_volume=is_mask),
                    }
                )
        return rows

    def _reads(self, time_s: float, chip: int, index: int, patient: str) -> list[MaskCounts]:
        found, read = [], 0
        while (key := (time_s, chip, read, index, patient)) in self.counts:
            found.append(self.counts[key])
            read += 1
        return found

    def _loss(self, time_s: float, chip: int, index: int, patient: str) -> np.ndarray:
        """Return the mean missed share of the reads at each threshold; NaN without a read."""
        reads = self._reads(time_s, chip, index, patient)
        if not reads:
            return np.full(len(THRESHOLDS), np.nan)
        loss: np.ndarray = np.mean([read.missed_share for read in reads], 0)
        return loss


def summarise_conformal(table: pd.DataFrame, alpha: float, *, seed: int = 0) -> pd.DataFrame:
    """Average the missed share and the size of the mask over patients and chips.

    Args:
        table: rows of :meth:`ConformalCounts.evaluate` with task, model and training.
        alpha: nominal risk bound.
        seed: seed of the bootstrap.

    Returns:
        One row per network, calibration, time and class: each of ``VALUES`` with its interval, and
        whether the risk bound is met: ``yes`` or ``no`` if alpha is above or below the whole
        confidence interval of the FNR, else ``open``.
    """
    rows = []
    for key, part in table.groupby(_WHERE, dropna=False, sort=False):
        row: dict[str, Any] = dict(zip(_WHERE, key, strict=True))
        counts: list[tuple[int, int]] = []
        for value in VALUES:
            wide = part.assign(chip=part["chip"].fillna(-1)).pivot(
                index="patient", columns="chip", values=value
            )
            array = wide.to_numpy(dtype=np.float64)
            digital = bool(part["chip"].isna().all())
            found = two_way_bootstrap(
                array[:, 0] if digital else array,
                patients=list(wide.index),
                bounds=bounds_of(value),
                seed=seed,
            )
            row |= found.cells(value)
            counts.append((found.n_patients, found.n_chips))
        row |= {
            "alpha": alpha,
            "kept": _kept(row, alpha),
            "threshold": float(part["threshold"].mean()),
            "n_units": int(part["n_units"].min()),
            "trivial": bool(part["trivial"].any()),
            **dict(zip(("n_patients", "n_chips"), counts[0], strict=True)),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _kept(row: dict[str, Any], alpha: float) -> str:
    if not np.isfinite(row["fnr_low"]):
        return "open"
    return "yes" if row["fnr_high"] <= alpha else "no" if row["fnr_low"] > alpha else "open"


def _outcome(
    control: RiskControl, reads: Sequence[MaskCounts], *, has_volume: bool
) -> dict[str, object]:
    index = control.index
    marked = float(np.mean([read.marked[index] for read in reads]))
    return {
        "threshold": control.threshold,
        "n_units": control.n_units,
        "trivial": control.trivial,
        "fnr": float(np.mean([read.missed_share[index] for read in reads])),
        "marked_share": marked / reads[0].voxels,
        "volume_ratio": marked / reads[0].structure if has_volume else np.nan,
    }
