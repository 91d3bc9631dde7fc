"""Metrics of uncertainty maps: rows of the long table, and counts for the diagrams."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from analogmed.data import Case, Sample, Task
from analogmed.evaluation.studies.uncertainty.calibration import (
    area_under_risk_coverage,
    auroc,
    band,
    brier_score,
    calibration_error,
    flatten,
    negative_log_likelihood,
    reliability_counts,
    risk_coverage,
)
from analogmed.evaluation.studies.uncertainty.maps import UncertaintyMaps, entropy
from analogmed.evaluation.studies.uncertainty.temperature import scale
from analogmed.kinds.segmentation import classes_of
from analogmed.metrics.case import mean_dice
from analogmed.tables.uncertainty import ADDRESS, VALUES

SCALED = "+temperature"
COVERAGES = np.linspace(0.01, 1.0, 100)
DENSITY_EDGES = np.concatenate([[0.0], np.logspace(-10, 0, 101), np.logspace(0, 1, 11)[1:]])
"""Bin edges, ten per decade; an entropy of K classes is at most ln(K) nats, other measures 1."""
_BINS_TO_1 = 101

Address = tuple[str, str, str, str, float]
"""Task, model, training, source and time in seconds (NaN without a chip)."""


@dataclass
class Scores:
    """Metrics of many cases, added one by one.

    Attributes:
        n_bins: number of bins of the calibration errors.
        margin: margin of the band around the reference, in voxels.
        rows: rows of the long table, columns of the table ``VALUES``.
        reliability: counts of each address, region and patient, shape (bins, 3).
        risks: risk of each case at ``COVERAGES``, by address and region.
        densities: voxels in each bin of ``DENSITY_EDGES``, by address, region and measure.
    """

    n_bins: int
    margin: int
    rows: list[dict[str, object]] = field(default_factory=list)
    reliability: dict[tuple[Address, str, str], np.ndarray] = field(default_factory=dict)
    risks: dict[tuple[Address, str], list[np.ndarray]] = field(
        default_factory=lambda: defaultdict(list)
    )
    densities: dict[tuple[Address, str, str], np.ndarray] = field(default_factory=dict)

    def add(
        self,
        address: Address,
        sample: Sample,
        maps: UncertaintyMaps,
        task: Task,
        thresholds: Sequence[float] = (),
    ) -> None:
        """Add the maps of one case; thresholds decide the classes of images, as in ``Scoring``."""
        measures = measures_of(maps)
        regions = {"image": None, "band": band(sample.label, self.margin)}
        for region, mask in regions.items():
            self._of_region(address, sample, maps, measures, region, mask)
        classes = classes_of(maps.mean)
        values = {"dice": mean_dice(classes, sample.label, len(task.classes))}
        marked = (classes > 0).sum()
        values["entropy_per_foreground"] = float(maps.entropy.sum(dtype=float) / max(marked, 1))
        self._write(address, sample.case, "image", values)

    def finish(self, task: Task) -> None:
        """Add the metrics that are defined by all cases together; masks have none."""

    def merge(self, other: "Scores") -> None:
        """Add the metrics of other addresses."""
        self.rows += other.rows
        self.reliability |= other.reliability
        self.risks |= other.risks
        self.densities |= other.densities

    def table(self) -> pd.DataFrame:
        """Return the long table."""
        return VALUES.frame(self.rows).astype({"time_s": float, "value": float})

    def reliability_table(self) -> pd.DataFrame:
        """Return the bins of the reliability diagrams, pooled over the voxels of all cases."""
        pooled: dict[tuple[Address, str], np.ndarray] = {}
        for (address, region, _), counts in self.reliability.items():
            pooled[address, region] = pooled.get((address, region), 0.0) + counts
        edges = np.linspace(0.0, 1.0, self.n_bins + 1)
        parts = []
        for (address, region), counts in pooled.items():
            voxels = np.maximum(counts[:, 0], 1)
            filled = np.where(counts[:, 0] > 0, 1.0, np.nan)
            columns = {
                "bin_low": edges[:-1],
                "bin_high": edges[1:],
                "voxels": counts[:, 0].astype(int),
                "confidence": filled * counts[:, 1] / voxels,
                "accuracy": filled * counts[:, 2] / voxels,
            }
            parts.append(_addressed(address, {"region": region}, columns))
        return pd.concat(parts, ignore_index=True)

    def risk_table(self) -> pd.DataFrame:
        """Return risk-coverage curves: the voxel error rate at each coverage, mean over cases."""
        return pd.concat(
            [
                _addressed(
                    address,
                    {"region": region},
                    {"coverage": COVERAGES, "risk": np.mean(curves, 0), "cases": len(curves)},
                )
                for (address, region), curves in self.risks.items()
            ],
            ignore_index=True,
        )

    def density_table(self) -> pd.DataFrame:
        """Return histograms of the uncertainty of all voxels, from 0 to 1 or the maximum."""
        filled = [
            np.flatnonzero(counts)[-1] + 1 for counts in self.densities.values() if any(counts)
        ]
        bins = max([_BINS_TO_1, *map(int, filled)])
        edges = {"bin_low": DENSITY_EDGES[:bins], "bin_high": DENSITY_EDGES[1 : bins + 1]}
        return pd.concat(
            [
                _addressed(
                    address,
                    {"region": region, "measure": measure},
                    {**edges, "count": counts[:bins]},
                )
                for (address, region, measure), counts in self.densities.items()
            ],
            ignore_index=True,
        )

    def _of_region(
        self,
        address: Address,
        sample: Sample,
        maps: UncertaintyMaps,
        measures: dict[str, np.ndarray],
        region: str,
        mask: np.ndarray | None,
    ) -> None:
        voxels = flatten(maps.mean, sample.label, mask)
        confidence, correct = voxels.confidence, voxels.correct
        values = {
            "ece": calibration_error(confidence, correct, n_bins=self.n_bins),
            "ace": calibration_error(confidence, correct, n_bins=self.n_bins, adaptive=True),
            "brier": brier_score(voxels),
            "nll": negative_log_likelihood(voxels),
        }
        for name, whole in measures.items():
            measure = whole.ravel() if mask is None else whole[mask]
            values[f"mean_{name}"] = _mean(measure)
            if name in PARTS:
                continue
            values[f"auroc_{name}"] = auroc(measure, ~correct)
            values[f"aurc_{name}"] = area_under_risk_coverage(measure, ~correct)
            self._count(address, region, name, measure)
            if name == "entropy" and len(measure):
                curve = np.interp(COVERAGES, *risk_coverage(measure, ~correct))
                self.risks[address, region].append(curve)
        self._rely(address, region, sample.case, confidence, correct)
        self._write(address, sample.case, region, values)

    def _count(self, address: Address, region: str, name: str, measure: np.ndarray) -> None:
        """Add the values of a measure to its histogram."""
        key = (address, region, name)
        counts = np.histogram(np.clip(measure, 0.0, DENSITY_EDGES[-1]), DENSITY_EDGES)[0]
        self.densities[key] = self.densities.get(key, 0) + counts

    def _rely(
        self,
        address: Address,
        region: str,
        case: Case,
        confidence: np.ndarray,
        correct: np.ndarray,
    ) -> None:
        """Add predictions to the counts of the reliability diagram."""
        key = (address, region, case.patient_id)
        counts = reliability_counts(confidence, correct, n_bins=self.n_bins)
        self.reliability[key] = self.reliability.get(key, 0.0) + counts

    def _write(self, address: Address, one: Case, region: str, values: dict[str, float]) -> None:
        where = dict(zip(ADDRESS, address, strict=True)) | {"region": region}
        case = {"case": one.case_id, "patient": one.patient_id}
        self.rows += [
            {**where, **case, "metric": metric, "value": value} for metric, value in values.items()
        ]


PARTS = ("read_variance", "chip_variance", "expected_entropy")
"""Components of an uncertainty, which are reported as means only."""


def measures_of(maps: UncertaintyMaps) -> dict[str, np.ndarray]:
    """Return the defined uncertainty measures of maps; with one pass, only the entropy."""
    measures = {"entropy": maps.entropy}
    if np.isfinite(maps.variance).all():
        measures["variance"] = maps.variance
        measures["mutual_information"] = maps.mutual_information
        measures["expected_entropy"] = maps.expected_entropy
    if np.isfinite(maps.chip_variance).all():
        measures["read_variance"] = maps.read_variance
        measures["chip_variance"] = maps.chip_variance
    return measures


def scaled_maps(maps: UncertaintyMaps, temperature: float) -> UncertaintyMaps:
    """Return the mean and its entropy at a temperature; measures of single passes are undefined."""
    mean = scale(maps.mean, temperature)
    unknown = np.full_like(maps.entropy, np.nan)
    return replace(
        maps,
        mean=mean,
        entropy=entropy(torch.from_numpy(mean)).numpy(),
        expected_entropy=unknown,
        variance=unknown,
        read_variance=unknown,
        chip_variance=unknown,
    )


def _mean(values: np.ndarray) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean(dtype=np.float64)) if len(defined) else float("nan")


def _addressed(address: Address, where: dict[str, str], columns: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    places: dict[str, Any] = dict(zip(ADDRESS, address, strict=True)) | where
    for place, (name, value) in enumerate(places.items()):
        table.insert(place, name, value)
    return table
