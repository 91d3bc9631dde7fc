"""History of a training run, epoch by epoch."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analogmed.metrics.registry import metric
from analogmed.tables.training_log import score_column
from analogmed.training.settings import Keep


@dataclass(frozen=True)
class EpochRecord:
    """A row of ``log.csv``.

    Attributes:
        epoch: number of the epoch, from 1; 0 is the network that the training starts from.
        step: number of optimizer steps so far.
        loss: mean over the epoch's batches; NaN for epoch 0.
        learning_rate: learning rate of the next step.
        score: validation score after this epoch; NaN without a validation. On disk, its column has
            the name of the metric.
        seconds: duration of the epoch including its validation, in s.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    score: float
    seconds: float

    @property
    def is_validated(self) -> bool:
        """Whether there was a validation after this epoch."""
        return not math.isnan(self.score)


_SCORE = "score"


@dataclass(frozen=True)
class History:
    """Epochs of a run so far.

    Attributes:
        records: one record per epoch, and one for epoch 0 where the start was validated.
        metric: name of the metric of the scores.
    """

    records: tuple[EpochRecord, ...] = ()
    metric: str = "dice"

    def __len__(self) -> int:
        return sum(record.epoch > 0 for record in self.records)

    @property
    def scores(self) -> list[float]:
        """Scores of all validations."""
        return [record.score for record in self.records if record.is_validated]

    @property
    def best(self) -> float:
        """Best score; before the first validation, the infinite value that every score reaches."""
        return metric(self.metric).best(self.scores)

    def keeps(self, score: float, keep: Keep) -> bool:
        """Return whether a state with a score replaces the kept one.

        Args:
            score: score of the next validation; NaN is never kept.
            keep: rule of the run, see ``TrainConfig.keep``.
        """
        start = tuple(record for record in self.records if record.epoch == 0)
        compared = self if keep == "best" else History(start, self.metric)
        return metric(self.metric).reaches(score, compared.best)

    def kept_epoch(self, keep: Keep) -> int | None:
        """Return the epoch whose state is kept; ``None`` before the first validation."""
        kept, history = None, History(metric=self.metric)
        for record in self.records:
            if history.keeps(record.score, keep):
                kept = record.epoch
            history = history.extended(record)
        return kept

    def has_stalled(self, patience: int) -> bool:
        """Return whether the last ``patience`` validations brought no improvement; never for 0."""
        scores, recent = self.scores, len(self.scores) - patience
        best = metric(self.metric).best
        return patience > 0 and recent > 0 and best(scores) == best(scores[:recent])

    def extended(self, record: EpochRecord) -> "History":
        """Return the history with one more epoch."""
        return History((*self.records, record), self.metric)

    def table(self) -> pd.DataFrame:
        """Return a table with one row per epoch."""
        return pd.DataFrame(self.plain())

    def plain(self) -> list[dict[str, Any]]:
        """Return the records as dictionaries, with the metric's name in place of ``score``."""
        names = {_SCORE: self.metric}
        return [
            {names.get(name, name): value for name, value in asdict(record).items()}
            for record in self.records
        ]

    @classmethod
    def of_plain(cls, records: Iterable[dict[str, Any]]) -> "History":
        """Build a history from the result of ``plain``."""
        rows = list(records)
        name = score_column(rows[0] if rows else ())
        named = [{_SCORE if key == name else key: row[key] for key in row} for row in rows]
        return cls(tuple(EpochRecord(**row) for row in named), name)
