"""Results of one source of passes as tables of a stored unit, and back."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analogmed.data import Task
from analogmed.evaluation.passes import DIGITAL_TIME_S
from analogmed.evaluation.studies.uncertainty.conformal import MaskCounts
from analogmed.evaluation.studies.uncertainty.conformal_table import ConformalCounts
from analogmed.evaluation.studies.uncertainty.examples import Examples
from analogmed.evaluation.studies.uncertainty.images.scores import scores_of
from analogmed.evaluation.studies.uncertainty.scores import Address, Scores
from analogmed.evaluation.studies.uncertainty.settings import UncertaintyConfig
from analogmed.execution.store import UnitResult
from analogmed.tables.table import records
from analogmed.tables.uncertainty import ADDRESS, EXAMPLES, TEMPERATURES

_MASKS = ["time_s", "chip", "read", "class", "patient"]


@dataclass
class SourceResult:
    """Results of one source of passes of one network.

    Attributes:
        scores: metrics of all cases.
        examples: slices of the selected cases.
        masks: counts for conformal masks.
        temperatures: fitted temperature at each time, with columns ``ADDRESS``.
    """

    scores: Scores
    examples: Examples
    masks: ConformalCounts
    temperatures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def empty(
        cls, config: UncertaintyConfig, task: Task, ranks: Mapping[str, str]
    ) -> "SourceResult":
        """Return results without a case.

        Args:
            config: settings of the measurement.
            task: data of the measurement.
            ranks: rank of each selected case.
        """
        scores = scores_of(task)(config.bins, config.margin)
        return cls(scores, Examples(dict(ranks)), ConformalCounts(task))

    def merge(self, other: "SourceResult") -> None:
        """Add the results of another source of the same network."""
        self.scores.merge(other.scores)
        self.examples.merge(other.examples)
        self.masks.merge(other.masks)
        self.temperatures += other.temperatures

    def to_tables(self) -> UnitResult:
        """Return the results as tables; arrays are lists of values or bytes in one cell."""
        scores = self.scores
        reliability = [
            (*address, region, patient, counts.ravel())
            for (address, region, patient), counts in scores.reliability.items()
        ]
        risks = [
            (*address, region, curve)
            for (address, region), curves in scores.risks.items()
            for curve in curves
        ]
        densities = [
            (*address, region, measure, counts)
            for (address, region, measure), counts in scores.densities.items()
        ]
        masks = [
            (*key, counts.found, counts.marked, counts.structure, counts.voxels)
            for key, counts in self.masks.counts.items()
        ]
        arrays = [
            (name, array.dtype.str, np.array(array.shape), array.tobytes())
            for name, array in self.examples.arrays.items()
        ]
        parts: dict[str, tuple[list[tuple[Any, ...]], list[str]]] = {
            "reliability": (reliability, [*ADDRESS, "region", "patient", "counts"]),
            "risks": (risks, [*ADDRESS, "region", "curve"]),
            "densities": (densities, [*ADDRESS, "region", "measure", "counts"]),
            "masks": (masks, [*_MASKS, "found", "marked", "structure", "voxels"]),
            "arrays": (arrays, ["name", "dtype", "shape", "data"]),
        }
        tables = {name: pd.DataFrame(rows, columns=heads) for name, (rows, heads) in parts.items()}
        tables["examples"] = EXAMPLES.frame(self.examples.rows)
        tables["temperatures"] = TEMPERATURES.frame(self.temperatures)
        return UnitResult(scores.table(), tables)

    @classmethod
    def from_tables(
        cls,
        result: UnitResult,
        config: UncertaintyConfig,
        task: Task,
        ranks: Mapping[str, str],
    ) -> "SourceResult":
        """Return the results that :meth:`to_tables` has turned into tables.

        Args:
            result: tables.
            config, task, ranks: as for :meth:`empty`.
        """
        found, parts = cls.empty(config, task, ranks), result.parts
        scores = found.scores
        scores.rows = records(result.table)
        for row in records(parts["reliability"]):
            counts = row["counts"].reshape(-1, 3)
            scores.reliability[_address(row), row["region"], row["patient"]] = counts
        for row in records(parts["risks"]):
            scores.risks[_address(row), row["region"]].append(row["curve"])
        for row in records(parts["densities"]):
            scores.densities[_address(row), row["region"], row["measure"]] = row["counts"]
        for row in records(parts["masks"]):
            key = (row["time_s"], row["chip"], row["read"], row["class"], row["patient"])
            found.masks.counts[key] = MaskCounts(
                row["found"], row["marked"], row["structure"], row["voxels"]
            )
        found.examples.arrays = dict(_arrays(parts["arrays"]))
        found.examples.rows = records(parts["examples"])
        found.temperatures = records(parts["temperatures"])
        return found


def _address(row: Mapping[str, Any]) -> Address:
    """Return the address of a row; NaN is one object, so that equal addresses compare equal."""
    time_s = DIGITAL_TIME_S if math.isnan(row["time_s"]) else row["time_s"]
    return row["task"], row["model"], row["training"], row["source"], time_s


def _arrays(table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    for row in records(table):
        array = np.frombuffer(row["data"], np.dtype(row["dtype"]))
        yield row["name"], array.reshape(tuple(row["shape"]))
