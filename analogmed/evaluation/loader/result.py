"""Result of :func:`analogmed.robustness`: values, table, figure and page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.evaluation.summaries.chip_losses import chip_losses
from analogmed.evaluation.summaries.class_scores import class_scores, time_of_classes
from analogmed.evaluation.summaries.runs import network_runs, present_structures
from analogmed.evaluation.summaries.summary import over_time
from analogmed.execution.run_folder import describe_environment
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.time_constants import TIME_NAMES, time_label
from analogmed.metrics.notes import UNDEFINED
from analogmed.report.figures.over_time import metric_over_time
from analogmed.report.robustness import Robustness


@dataclass(frozen=True, repr=False)
class RobustnessResult:
    """Scores of a network run digitally and on chips over time.

    Attributes:
        values: one row per run, chip, time, image and class: the columns of ``results.csv``.
        metric: name of the metric.
        lower_is_better: whether lower values are better; a drop is by how much the chip is worse.
        level: confidence level of the intervals.
        settings: arguments of the evaluation, and the hardware.
        time: date and time of the evaluation, in UTC.
        names: names of times in s; texts such as ``30 days`` are kept as they were given.
    """

    values: pd.DataFrame
    metric: str
    lower_is_better: bool = False
    level: float = 0.95
    settings: Mapping[str, Any] = field(default_factory=dict)
    time: str = ""
    names: Mapping[float, str] = field(default_factory=lambda: TIME_NAMES)

    @property
    def curves(self) -> pd.DataFrame:
        """Score over time with intervals over patients and chips, as in ``curves.csv``."""
        return over_time(
            self.values, self.metric, lower_is_better=self.lower_is_better, level=self.level
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per time: score and drop against the digital run, each with its interval."""
        curves = self.curves
        on_chip = curves["hardware"] != "digital"
        times = [
            "digital",
            *(time_label(time_s, self.names) for time_s in curves.loc[on_chip, "time_s"]),
        ]
        names = {"estimate": self.metric, "low": "low", "high": "high"}
        names |= {f"drift_drop{end}": f"drop{end}" for end in ("", "_low", "_high")}
        rows = pd.concat([curves[~on_chip], curves[on_chip]])[list(names)].rename(columns=names)
        return rows.set_axis(pd.Index(times, name="time"))

    @property
    def class_scores(self) -> pd.DataFrame:
        """Score and drop of each class after a day or at the last time, as ``class_scores.csv``.

        Empty for a single class.
        """
        time_s = time_of_classes(self.values["time_s"].dropna().unique().tolist())
        return class_scores(
            self.values,
            self.metric,
            time_s,
            lower_is_better=self.lower_is_better,
            level=self.level,
        )

    @property
    def notes(self) -> list[str]:
        """Limitations of the result: images or classes without a value, too few chips."""
        images = self.values["case"].nunique()
        counted = {case for run in network_runs(self.values, self.metric) for case in run.cases}
        notes = []
        if left_out := images - len(counted):
            notes.append(
                f"{left_out} of {images} images are in no mean: their reference has no structure, "
                "or the metric is undefined in some run; see .values"
            )
        present = set(present_structures(self.values)["class"])
        if absent := [name for name in self.values["class"].unique() if name not in present]:
            notes.append(f"{', '.join(absent)}: in no reference, and so in no mean")
        undefined = self.values[self.values["note"].isin(UNDEFINED)].drop_duplicates("class")
        notes += [
            f"{name}: {note}, and so in no mean"
            for name, note in zip(undefined["class"], undefined["note"], strict=True)
        ]
        if min(self.values["patient"].nunique(), self.values["chip"].nunique()) < 2:
            notes.append("no intervals: they need at least two chips and two patients")
        return notes

    @checks_arguments
    def plot(self, path: Path | str) -> Path:
        """Draw the score over time with its digital baseline into a PNG or SVG file."""
        return metric_over_time(self.curves, path, names=self.names)

    @checks_arguments
    def report(self, path: Path | str) -> Path:
        """Write a page with the table, the figure, and the settings of the evaluation.

        The page needs no Internet access.

        Args:
            path: file to write, ending in ``.html``.

        Returns:
            ``path``.

        Raises:
            ConfigError: the path does not end in ``.html``.
        """
        return self._described.write(path, describe_environment() | {"time": self.time})

    @property
    def _described(self) -> Robustness:
        lower = self.lower_is_better
        chips = chip_losses(self.values, self.metric, lower_is_better=lower)
        notes, settings = tuple(self.notes), dict(self.settings)
        tables = chips, self.class_scores
        return Robustness(self.curves, lower, notes, settings, *tables, self.names)

    def __str__(self) -> str:
        return self._described.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._described.html()
