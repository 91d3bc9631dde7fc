"""What a training run leaves on disk, and how it goes on from there."""

from torch import nn

from analogmed.analog.aihwkit_training import tiles_of
from analogmed.atomic import ensure_writable, write_text_atomically
from analogmed.config import to_plain, to_yaml
from analogmed.data.files import file_digest
from analogmed.environment import write_environment
from analogmed.training.config import SETTINGS, TrainConfig, network_file
from analogmed.training.distributed import Ranks
from analogmed.training.history import History
from analogmed.training.learner import Learner
from analogmed.training.resume import (
    TrainingState,
    load_latest,
    refuse_other_configuration,
    remove_states,
    save_state,
)


class RunFolder:
    """The folder of one run.

    Args:
        config: settings of the run.
        ranks: only the first of these processes writes.

    Raises:
        ConfigError: the folder cannot be written, or holds a run with other settings.
        CheckpointError: it holds a run, but none of its states can be read.
    """

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        self._config, self._ranks = config, ranks
        self._path, self._start = config.folder, _digest_of_start(config)
        if ranks.is_first:
            ensure_writable(self._path)
            if config.restart:
                remove_states(self._path)
        ranks.wait()
        self._state = load_latest(self._path)
        if self._state is not None:
            refuse_other_configuration(self._state, to_plain(self._config), self._start)
        elif ranks.is_first:
            self._describe()

    @property
    def history(self) -> History:
        """The epochs that are done."""
        return History.of_plain(self._state.history if self._state else ())

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, by its epochs or early."""
        history = self.history
        return len(history) >= self._config.epochs or history.has_stalled(self._config.patience)

    def restore(self, model: nn.Module, learner: Learner) -> History:
        """Put a network and its learner where the run was interrupted, if it was."""
        if self._state is not None:
            model.load_state_dict(self._state.model)
            learner.load_state_dict(self._state.learner)
        history, self._state = self.history, None
        return history

    def save(self, model: nn.Module, learner: Learner, history: History) -> None:
        """Keep all that the run needs to go on after its last epoch.

        The state of aihwkit's tiles holds objects that only pickle writes; such a run starts anew.
        """
        if self._ranks.is_first and not tiles_of(model):
            state = TrainingState(
                epoch=len(history),
                model=model.state_dict(),
                learner=learner.state_dict(),
                history=history.plain(),
                config=to_plain(self._config),
                start=self._start,
            )
            save_state(self._path, state)

    def _describe(self) -> None:
        write_text_atomically(self._path / SETTINGS, to_yaml(self._config))
        write_environment(self._path)


def _digest_of_start(config: TrainConfig) -> str:
    """SHA-256 of the checkpoint that a run starts from; empty if there is none."""
    if config.init is None or not network_file(config.init).is_file():
        return ""
    return file_digest(network_file(config.init))
