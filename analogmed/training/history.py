"""History of a training run, epoch by epoch."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analogmed.training.settings import Keep


@dataclass(frozen=True)
class EpochRecord:
    """A row of ``log.csv``.

    Attributes:
        epoch: number of the epoch, from 1; 0 is the network that the training starts from.
        step: number of optimizer steps so far.
        loss: mean over the epoch's batches; NaN for epoch 0.
        learning_rate: learning rate of the next step.
        dice: validation score after this epoch; NaN without a validation.
        seconds: duration of the epoch including its validation, in s.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    dice: float
    seconds: float


@dataclass(frozen=True)
class History:
    """Epochs of a run so far.

    Attributes:
        records: one record per epoch, and one for epoch 0 where the start was validated.
    """

    records: tuple[EpochRecord, ...] = ()

    def __len__(self) -> int:
        return sum(record.epoch > 0 for record in self.records)

    @property
    def scores(self) -> list[float]:
        """Scores of all validations."""
        return [record.dice for record in self.records if math.isfinite(record.dice)]

    @property
    def best(self) -> float:
        """Highest score; minus infinity before the first validation."""
        return max(self.scores, default=-math.inf)

    def lowest_kept(self, keep: Keep) -> float:
        """Return the score that a state must have to replace the kept one.

        Args:
            keep: rule of the run, see ``TrainConfig.keep``.
        """
        if keep == "best":
            return self.best
        return History(tuple(r for r in self.records if r.epoch == 0)).best

    def kept_epoch(self, keep: Keep) -> int | None:
        """Return the epoch whose state is kept; ``None`` before the first validation."""
        kept, history = None, History()
        for record in self.records:
            if record.dice >= history.lowest_kept(keep):
                kept = record.epoch
            history = history.extended(record)
        return kept

    def has_stalled(self, patience: int) -> bool:
        """Return whether the last ``patience`` validations brought no improvement; never for 0."""
        recent = len(self.scores) - patience
        return (
            patience > 0 and recent > 0 and max(self.scores[:recent]) >= max(self.scores[recent:])
        )

    def extended(self, record: EpochRecord) -> "History":
        """Return the history with one more epoch."""
        return History((*self.records, record))

    def table(self) -> pd.DataFrame:
        """Return a table with one row per epoch."""
        return pd.DataFrame(self.plain())

    def plain(self) -> list[dict[str, Any]]:
        """Return the records as dictionaries."""
        return [asdict(record) for record in self.records]

    @classmethod
    def of_plain(cls, records: Iterable[dict[str, Any]]) -> "History":
        """Build a history from the result of ``plain``."""
        return cls(tuple(EpochRecord(**record) for record in records))
