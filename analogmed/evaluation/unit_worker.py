"""Base of the computes of all studies: data and networks are loaded once and checked per unit."""

import platform
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from analogmed.data import Task
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.unit_code import network_code
from analogmed.execution.unit import Unit
from analogmed.foundation.errors import CheckpointError, ConfigError, DataError
from analogmed.foundation.files import file_digest
from analogmed.training import Checkpoint, load_checkpoint

Config = TypeVar("Config", bound=Experiment)


class UnitWorker(ABC, Generic[Config]):
    """Base of a compute that reuses data and networks between units.

    Args:
        config: settings of the study.
        task: data that the units were planned with; by default they are loaded and compared with
            each unit.

    Attributes:
        fatal: classes of errors that end the run.
    """

    fatal: tuple[type[Exception], ...] = (Exception,)

    def __init__(self, config: Config, task: Task | None = None) -> None:
        self.config = config
        self.task = task or config.task.load()
        self._inputs: dict[str, Any] | None = None if task else {}
        self._loaded: dict[Path, tuple[Mapping[str, str], Checkpoint]] = {}
        self.forget()

    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the units, without their networks, as this process has them."""

    def forget(self) -> None:
        """Drop what was derived from the data: at the start, and when they have changed."""

    def require_inputs(self, unit: Unit) -> None:
        """Raise an error if code, processor or data differ from those of the unit's plan.

        Data that have changed since they were loaded are reloaded.
        """
        if self._inputs is None:
            return
        if not self._inputs:
            self._inputs = self.inputs()
        elif _differing(self._inputs, unit, _DATA):
            self.task = self.config.task.load()
            self.forget()
            self._inputs = self.inputs()
        if names := _differing(self._inputs, unit, _DATA):
            raise DataError(
                f"task {self.task.name}: its files differ from those that the run was planned "
                f"with ({', '.join(names)}). Run the same command again."
            )
        if names := _differing(self._inputs, unit, _MACHINE):
            raise ConfigError(
                f"engine: a worker on {platform.node()} has another {' and '.join(names)} than the "
                "process that planned the run, so its results would differ. Use the same "
                "version of analogmed and the same kind of processor for both."
            )

    def load(self, networks: Iterable[tuple[Path, Mapping[str, str]]]) -> list[Checkpoint]:
        """Return the networks of a unit; those of the previous unit are reused.

        Args:
            networks: file and description of each network, see ``inputs_of_network``.

        Raises:
            CheckpointError: a file, or the source of a network, differs from that of the plan.
        """
        before, self._loaded = self._loaded, {}
        loaded = []
        for path, described in networks:
            wanted = {name: described[name] for name in ("checkpoint", "network_code")}
            known = before.get(path)
            same = known is not None and known[0] == wanted
            self._loaded[path] = known if known and same else (wanted, self._read(path, wanted))
            loaded.append(self._loaded[path][1])
        return loaded

    def _read(self, path: Path, wanted: Mapping[str, str]) -> Checkpoint:
        if file_digest(path) != wanted["checkpoint"]:
            raise CheckpointError(
                f"checkpoint {path}: the file differs from the one that the run was planned with. "
                "Run the same command again."
            )
        loaded = load_checkpoint(path, factories=self.config.factories)
        if network_code(loaded.info.model) != wanted["network_code"]:
            raise CheckpointError(
                f"checkpoint {path}: the source of {loaded.info.model} differs from the one that "
                "the run was planned with. Run the same command again."
            )
        return loaded


def _differing(found: Mapping[str, Any], unit: Unit, names: Sequence[str]) -> list[str]:
    described = unit.description
    return [n for n in names if n in described and described[n] != found[n]]


_DATA = ("cases_digest", "validation_digest", "calibration_digest", "images_digest", "window")
_MACHINE = ("code", "task_code", "metric_code", "versions", "processor", "gpu")
