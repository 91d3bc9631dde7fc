"""What a run says of itself while it lasts: progress bar, lines, table and TensorBoard."""

import logging
import math
import time
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from analogmed.atomic import write_atomically
from analogmed.report import training_curves
from analogmed.training.history import EpochRecord, History
from analogmed.training.setup import Setup

LOG = "log.csv"
CURVES = "curves.png"
LOGGER = "analogmed.training"
"""Name of the logger that tells how far a run is, at level INFO."""

_RECENT = 20
_SILENCE_S = 60.0


class TrainingLog:
    """Progress bar, lines of :data:`LOGGER`, ``log.csv``, TensorBoard and ``curves.png`` of a run.

    A line is told after each validation, and after an epoch when the last line is a minute old. The
    bar is for terminals only. Ranks other than the first are silent.

    Args:
        run: the run.
        history: epochs that it has behind it; what is on disk of later ones goes.
        batches: of the whole run.
    """

    def __init__(self, run: Setup, history: History, *, batches: int) -> None:
        self._folder, self._enabled = run.config.folder, run.ranks.is_first
        self._title = f"{run.config.model.name} {run.config.training} on {run.task.name}"
        self._scores = history.scores
        self._losses: list[float] = []
        self._start = self._begun = self._told = time.monotonic()
        self._epochs, self._epochs_before = run.config.epochs, len(history)
        self._progress = tqdm(
            total=batches,
            initial=len(history) * batches // run.config.epochs,
            desc=self._title,
            unit="batch",
            disable=None if self._enabled else True,
            smoothing=0.05,
        )
        self._board = None
        if self._enabled:
            step = history.records[-1].step + 1 if history.records else 0
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.close()
        if self._board:
            self._board.close()

    def batch(self, loss: float) -> None:
        """After each batch."""
        self._losses.append(loss)
        self._progress.update()
        recent = self._losses[-_RECENT:]
        shown = {"loss": f"{sum(recent) / len(recent):.3f}"}
        if self._scores:
            shown |= {"dice": f"{self._scores[-1]:.3f}", "best": f"{max(self._scores):.3f}"}
        self._progress.set_postfix(shown, refresh=False)

    def epoch(self, epoch: int, step: int, learning_rate: float, dice: float) -> EpochRecord:
        """What happened since the last call, or since the start.

        Args:
            epoch: number of the epoch, from 1.
            step: steps of the optimizer so far.
            learning_rate: of the step to come.
            dice: validation score; NaN without one.
        """
        seconds = time.monotonic() - self._start
        loss = sum(self._losses) / len(self._losses)
        self._losses, self._start = [], time.monotonic()
        if math.isfinite(dice):
            self._scores.append(dice)
        record = EpochRecord(epoch, step, loss, learning_rate, dice, seconds)
        if self._enabled and (math.isfinite(dice) or self._start - self._told >= _SILENCE_S):
            self._tell(record)
        return record

    def write(self, history: History) -> None:
        """Bring the files of the log up to date."""
        if self._board is None:
            return
        table = history.table()
        write_atomically(self._folder / LOG, lambda path: table.to_csv(path, index=False))
        last = history.records[-1]
        for name in ("loss", "learning_rate", "dice", "seconds"):
            value = getattr(last, name)
            if math.isfinite(value):
                self._board.add_scalar(name, value, last.step)
        self._board.flush()

    def draw(self, history: History) -> None:
        """Draw the curves of the run so far."""
        if self._enabled:
            training_curves(history.table(), self._folder / CURVES, title=self._title)

    def _tell(self, record: EpochRecord) -> None:
        self._told = time.monotonic()
        per_epoch_s = (self._told - self._begun) / (record.epoch - self._epochs_before)
        left_s = per_epoch_s * (self._epochs - record.epoch)
        score = f"validation Dice {record.dice:.3f}, " if math.isfinite(record.dice) else ""
        best = f"best {max(self._scores):.3f}, " if self._scores else ""
        logging.getLogger(LOGGER).info(
            f"{self._title}: epoch {record.epoch}/{self._epochs}, loss {record.loss:.3f}, "
            f"{score}{best}{tqdm.format_interval(left_s)} left"
        )
