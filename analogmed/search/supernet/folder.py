"""Files of a supernetwork's training on disk, and how a run resumes from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from analogmed.execution.run_folder import WrittenFiles
from analogmed.foundation.files import write_atomically
from analogmed.foundation.settings.plain import to_plain
from analogmed.models import Genotype
from analogmed.search.supernet.network import Supernet
from analogmed.search.supernet.pruning import Pruning
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.training.distributed import Ranks
from analogmed.training.history import History
from analogmed.training.learner import StepOptimizer
from analogmed.training.state.folder import opened
from analogmed.training.state.nested_tensors import write_nested
from analogmed.training.state.state import TrainingState, save_state

SETTINGS = "supernet.yaml"
TRACE = "trace.csv"
PRUNED = "pruning.csv"


class SupernetFolder:
    """Folder of one run.

    Args:
        config: settings of the run.
        ranks: processes of the run, of which only the first writes.

    Raises:
        ConfigError: the folder cannot be written, or contains a run with other settings.
        CheckpointError: the folder contains a run, but none of its states can be read.
    """

    def __init__(self, config: SupernetConfig, ranks: Ranks) -> None:
        self._config, self._ranks, self._path = config, ranks, config.folder
        written = (config.path.name, TRACE, PRUNED)
        self._state = opened(config, ranks, SETTINGS, written=written)
        if ranks.is_first and config.restart:
            WrittenFiles(self._path).remove(config.path.name)
        self._traced: list[dict[str, Any]] = []

    @property
    def is_finished(self) -> bool:
        """Whether the trained weights exist."""
        done = len(self._state.history) if self._state else 0
        return done >= self._config.epochs and self._config.path.exists()

    def restore(self, model: nn.Module, learner: StepOptimizer, pruning: Pruning) -> History:
        """Restore a run to where it was interrupted, if it was."""
        state, self._state = self._state, None
        if state is None:
            return History()
        model.load_state_dict(state.model)
        learner.load_state_dict(state.learner["learner"])
        pruning.load_state_dict(state.learner["pruning"])
        self._traced = state.learner["trace"]
        return History.of_plain(state.history)

    def trace(self, epoch: int, networks: Sequence[Genotype], scores: Sequence[float]) -> None:
        """Store the scores of networks after an epoch, in ``trace.csv``."""
        self._traced += [
            {"epoch": epoch, "genotype": genotype.to_json(), "score": score}
            for genotype, score in zip(networks, scores, strict=True)
        ]

    def save(
        self, model: nn.Module, learner: StepOptimizer, pruning: Pruning, history: History
    ) -> None:
        """Save all that the run needs to resume after its last epoch."""
        if not self._ranks.is_first:
            return
        self._table(TRACE, self._traced, ["epoch", "genotype", "score"])
        columns = ["epoch", "level", "block", "dice", "latency_s"]
        self._table(PRUNED, list(map(vars, pruning.dropped)), columns)
        state = TrainingState(
            epoch=len(history),
            model=model.state_dict(),
            learner={
                "learner": learner.state_dict(),
                "pruning": pruning.state_dict(),
                "trace": self._traced,
            },
            history=history.plain(),
            config=to_plain(self._config),
        )
        save_state(self._path, state)

    def finish(self, supernet: Supernet, pruning: Pruning) -> None:
        """Write the trained weights and the blocks that are left after pruning."""
        if self._ranks.is_first:
            blocks = [list(names) for names in pruning.choices.blocks]
            content = {"weights": supernet.state_dict(), "blocks": blocks}
            write_atomically(self._config.path, lambda path: write_nested(path, content))

    def _table(self, name: str, rows: list[dict[str, Any]], columns: list[str]) -> None:
        path: Path = self._path / name
        if rows:
            WrittenFiles(self._path).record(name)
            table = pd.DataFrame(rows, columns=columns)
            write_atomically(path, lambda temporary: table.to_csv(temporary, index=False))
        else:
            WrittenFiles(self._path).remove(name)
