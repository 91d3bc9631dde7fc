"""Progress reports of a training run: progress bar, log lines, table and TensorBoard."""

import logging
import math
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from analogmed.foundation.progress import ProgressBar
from analogmed.metrics.metric import Metric
from analogmed.metrics.registry import metric
from analogmed.report import training_curves
from analogmed.tables import training_log
from analogmed.tables.table import names_of_columns
from analogmed.training.checkpoint.checkpoint import load_checkpoint
from analogmed.training.distributed import Ranks
from analogmed.training.history import EpochRecord, History
from analogmed.training.settings import Keep, TrainConfig

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG = training_log.LOG.file
CURVES = "curves.png"
LOGGER = "analogmed.training"
"""Name of the logger that reports the progress of a run, at level INFO."""

_RECENT = 20
_SILENCE_S = 60.0


class TrainingLog:
    """Progress bar, lines of :data:`LOGGER`, ``log.csv``, TensorBoard and ``curves.png`` of a run.

    A line is logged after each validation, and after an epoch when the last line is a minute old.
    Without a terminal, lines replace the bar. Ranks other than the first are silent.

    Args:
        config: settings of the run.
        title: name of the run, see :func:`make_title`.
        history: completed epochs; entries of later epochs on disk are removed.
        batches: number of batches of the whole run.
        ranks: processes of the run.
    """

    def __init__(
        self, config: TrainConfig, title: str, history: History, *, batches: int, ranks: Ranks
    ) -> None:
        self._folder, self._enabled = config.folder, ranks.is_first
        self._keep, self._title = config.keep, title
        self._metric = metric(history.metric)
        self._scores = history.scores
        self._losses: list[float] = []
        self._start = self._begun = self._told = time.monotonic()
        self._epochs, self._epochs_before = config.epochs, len(history)
        self._progress = ProgressBar(
            batches,
            unit="batch",
            title=self._title,
            done=len(history) * batches // config.epochs,
            shown=self._enabled,
        )
        self._board = None
        if self._enabled:
            self._board = _board(self._folder, history)

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

    def start(self, learning_rate: float, score: float) -> EpochRecord:
        """Log the score of the network that the training starts from, as epoch 0."""
        seconds = time.monotonic() - self._start
        self._start = time.monotonic()
        self._scores.append(score)
        if self._enabled:
            text = f"{self._title}: start, validation {self._metric.label} {score:.3f}"
            self._progress.log(logging.getLogger(LOGGER), text)
        return EpochRecord(0, 0, math.nan, learning_rate, score, seconds)

    def batch(self, loss: float, step: int) -> None:
        """Log the loss of a batch, after ``step`` steps of the optimizer."""
        self._losses.append(loss)
        recent = self._losses[-_RECENT:]
        shown = {"step": str(step), "loss": f"{sum(recent) / len(recent):.3f}"}
        if self._scores:
            best = self._metric.best(self._scores)
            shown |= {self._metric.name: f"{self._scores[-1]:.3f}", "best": f"{best:.3f}"}
        self._progress.describe(note=", ".join(f"{name}={value}" for name, value in shown.items()))
        self._progress.update()

    def epoch(self, epoch: int, step: int, learning_rate: float, score: float) -> EpochRecord:
        """Return the record of what happened since the last call, or since the start.

        Args:
            epoch: number of the epoch, from 1.
            step: number of optimizer steps so far.
            learning_rate: learning rate of the next step.
            score: validation score; NaN without a validation.
        """
        seconds = time.monotonic() - self._start
        loss = sum(self._losses) / len(self._losses)
        self._losses, self._start = [], time.monotonic()
        record = EpochRecord(epoch, step, loss, learning_rate, score, seconds)
        if record.is_validated:
            self._scores.append(score)
        if self._enabled and (record.is_validated or self._start - self._told >= _SILENCE_S):
            self._tell(record)
        return record

    def write(self, history: History) -> None:
        """Update the files of the log."""
        if self._board is None:
            return
        _write_table(self._folder, history)
        _add(self._board, history)

    def complete(self, history: History) -> None:
        """Draw the curves of the run, and write its table again: a killed run may lack a row."""
        if self._enabled:
            _write_table(self._folder, history)
            _draw(self._folder, history, self._title, self._keep)

    def _tell(self, record: EpochRecord) -> None:
        self._told = time.monotonic()
        per_epoch_s = (self._told - self._begun) / (record.epoch - self._epochs_before)
        left_s = per_epoch_s * (self._epochs - record.epoch)
        label, best = self._metric.label, self._metric.best(self._scores)
        score = f"validation {label} {record.score:.3f}, " if record.is_validated else ""
        best_so_far = f"best {best:.3f}, " if self._scores else ""
        self._progress.log(
            logging.getLogger(LOGGER),
            f"{self._title}: epoch {record.epoch}/{self._epochs}, loss {record.loss:.3f}, "
            f"{score}{best_so_far}{tqdm.format_interval(left_s)} left",
        )


def complete_log(config: TrainConfig, history: History) -> None:
    """Complete the log of a finished run, if the run was killed before it had written it.

    Args:
        config: settings of the run.
        history: all epochs of the run.

    Raises:
        CheckpointError: the log is incomplete, and the run's network cannot be read.
    """
    folder = config.folder
    in_log = _holds(folder / LOG, history.table().to_csv(index=False))
    if in_log and (folder / CURVES).is_file():
        return
    if not in_log:
        _write_table(folder, history)
        _board(folder, history).close()
    info = load_checkpoint(config.path, factories=(config.model.name,)).info
    _draw(folder, history, make_title(info.model, info.training, info.task), config.keep)


def logged_metric(folder: Path) -> Metric:
    """Return the metric of the validation scores in the log of a run folder."""
    return metric(training_log.score_column(names_of_columns(folder / LOG)))


def make_title(model: str, training: str, task: str) -> str:
    """Return the name of a run in log lines and figures."""
    return f"{model} {training} on {task}"


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _write_table(folder: Path, history: History) -> None:
    training_log.LOG.write(history.table(), folder)


def _draw(folder: Path, history: History, title: str, keep: Keep) -> None:
    kept = history.kept_epoch(keep)
    training_curves(history.table(), folder / CURVES, title=title, kept_epoch=kept)


def _board(folder: Path, history: History) -> "SummaryWriter":
    """Open the TensorBoard events of a run, and rewrite its last epoch.

    A killed process may have lost that epoch.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes a second, and trainings need it only

    last = history.records[-1] if history.records else None
    step = last.step if last else 0
    board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
    if last:
        _add(board, history)
    return board


def _add(board: "SummaryWriter", history: History) -> None:
    """Add the last epoch of a history."""
    row = history.plain()[-1]
    for name in ("loss", "learning_rate", history.metric, "seconds"):
        if math.isfinite(row[name]):
            board.add_scalar(name, row[name], row["step"])
    board.flush()
