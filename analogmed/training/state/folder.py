"""Files of a training run on disk, and how a run resumes from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from analogmed.analog.aihwkit_backend.training import load_tensors, tensors_of
from analogmed.data import Task
from analogmed.execution.run_folder import ENVIRONMENT, WrittenFiles, describe_run, locked
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import ensure_writable
from analogmed.foundation.settings.difference import changed_members
from analogmed.foundation.settings.plain import to_plain
from analogmed.training.distributed import Ranks
from analogmed.training.history import History
from analogmed.training.log import CURVES, LOG
from analogmed.training.state.state import (
    STATES,
    TrainingState,
    digests_of_networks,
    load_latest,
    refuse_other_configuration,
    remove_states,
    save_state,
)


class Resumable(Protocol):
    """A model with the further state that its training resumes from.

    Attributes:
        model: model in training.
    """

    model: nn.Module

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next epochs depend on, except the model's own state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""


class _Config(Protocol):
    """Settings of a run with a folder."""

    @property
    def folder(self) -> Path:
        """Run folder."""

    @property
    def restart(self) -> bool:
        """Whether the run starts over."""


class TrainingFolder:
    """Folder of one training, from which it resumes.

    Args:
        config: settings of the run.
        ranks: processes of the run, of which only the first writes.
        settings: name of the file of settings.
        written: other files that the run writes, in addition to its log.

    Raises:
        ConfigError: the folder cannot be written, contains a run with other settings, or contains
            files of these names that no run has written.
        CheckpointError: the folder contains a run, but none of its states can be read.
    """

    def __init__(
        self,
        config: _Config,
        ranks: Ranks,
        settings: str,
        written: Sequence[str] = (),
    ) -> None:
        self._config, self._ranks = config, ranks
        self._networks = digests_of_networks(to_plain(config))
        self._state = opened(config, ranks, settings, self._networks, written)
        self._patients: dict[str, list[str]] = {}

    @property
    def history(self) -> History:
        """Completed epochs of the run when the folder was opened."""
        return History.of_plain(self._state.history if self._state else ())

    def require_patients(self, tasks: Iterable[Task]) -> None:
        """Raise an error if a run is resumed on other patients; call this before ``restore``.

        The network is tested on the patients that it was not trained on, and describes only those
        of its last epochs.

        Args:
            tasks: data of the run.

        Raises:
            DataError: names the patients that are new, missing, or in another split.
        """
        self._patients = {
            f"{task.name} {part}": sorted({case.patient_id for case in cases})
            for task in tasks
            for part, cases in (("train", task.train), ("validation", task.validation))
        }
        before = self._state.patients if self._state else {}
        if before and (found := changed_members(before, self._patients)):
            raise DataError(
                f"task: the patients differ from those that the run in {self._config.folder} began "
                f"with ({found}); expected the same patients in the same splits, because the "
                "network must not be tested on patients that it was trained on. Restore the data, "
                "or give another --out, or --restart true, to train from the start."
            )

    def restore(self, run: Resumable, metric: str) -> History:
        """Restore a run to where it was interrupted, if it was, and return its epochs.

        Args:
            run: model and state of the run before its first epoch.
            metric: name of the metric of its validation.

        Raises:
            ConfigError: the run was validated by another metric.
        """
        history, state, self._state = self.history, self._state, None
        if state is None:
            return History(metric=metric)
        if history.metric != metric:
            raise ConfigError(
                f"task: the run in {self._config.folder} was validated by {history.metric}; "
                f"expected {metric}, the primary metric of the task. Give another --out, or "
                "--restart true, to train from the start."
            )
        load_tensors(run.model, state.model)
        run.load_state_dict(state.learner)
        return history

    def save(self, run: Resumable, history: History) -> None:
        """Save all that the run needs to resume after its last epoch."""
        if self._ranks.is_first:
            state = TrainingState(
                epoch=len(history),
                model=tensors_of(run.model),
                learner=run.state_dict(),
                history=history.plain(),
                config=to_plain(self._config),
                networks=self._networks,
                patients=self._patients,
            )
            save_state(self._config.folder, state)


@contextmanager
def one_run(folder: Path, ranks: Ranks, settings: str) -> Iterator[None]:
    """Lock a run folder for the processes of one run.

    Args:
        folder: run folder.
        ranks: processes of the run.
        settings: name of the file of settings.

    Raises:
        ConfigError: another run is writing to the folder, or it cannot be written.
    """
    with locked(folder, settings, ENVIRONMENT) if ranks.is_first else nullcontext():
        yield


def opened(
    config: _Config,
    ranks: Ranks,
    settings: str,
    networks: Mapping[str, str],
    written: Sequence[str] = (),
) -> TrainingState | None:
    """Create a run folder with its settings and environment, or load the run that it contains.

    Args:
        config: settings of the run.
        ranks: processes of the run, of which only the first writes.
        settings: name of the file of settings.
        networks: SHA-256 of the checkpoints that the run reads, from :func:`digests_of_networks`.
        written: other files that the run writes, in addition to its log.

    Returns:
        the last state of the run to resume; ``None`` for a new run.

    Raises:
        ConfigError: the folder cannot be written, contains a run with other settings, or contains
            files of these names that no run has written.
        CheckpointError: the folder contains a run, but none of its states can be read.
    """
    if ranks.is_first:
        ensure_writable(config.folder)
        files = WrittenFiles(config.folder)
        if settings in files:  # supernetworks did not list their log before
            files.record(LOG, CURVES)
        files.claim(settings, ENVIRONMENT, LOG, CURVES, *written, STATES)
        if config.restart:
            remove_states(config.folder)
    ranks.wait()
    state = load_latest(config.folder)
    if state is not None:
        defaults = to_plain(type(config)())
        refuse_other_configuration(state, to_plain(config), networks, defaults=defaults)
    elif ranks.is_first:
        describe_run(config, config.folder, settings)
    return state
