"""A trained supernetwork from its run folder, and how well its networks do with shared weights."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError

from analogmed.cli import parse
from analogmed.data import Task
from analogmed.foundation.errors import CheckpointError, LeakageError
from analogmed.models import Genotype
from analogmed.network.walk import evaluating
from analogmed.search.paths import Choices
from analogmed.search.pruning import choices_of
from analogmed.search.space import Space
from analogmed.search.supernet import Supernet
from analogmed.search.supernet_config import SUPERNET, SupernetConfig
from analogmed.search.supernet_folder import SETTINGS
from analogmed.search.supernet_setup import load_tasks, make_supernet
from analogmed.training.nested_tensors import read_nested
from analogmed.training.validation import MeanDice


class SharedWeights:
    """A trained supernetwork.

    Scores are computed once and kept in memory. No test patient is ever read: weights come from the
    training patients of a task, scores from its validation patients.

    Args:
        config: settings of its training.
        device: where scores are computed.

    Attributes:
        config: settings of its training.
        tasks: the data, by name.
        supernet: the shared weights.
        choices: what pruning has left of the space.
    """

    def __init__(self, config: SupernetConfig, *, device: str = "cpu") -> None:
        self.config = config
        self._device = torch.device(device)
        self._scores: dict[tuple[str, Genotype], float] = {}
        self._validations: dict[str, MeanDice] = {}
        self.tasks = {task.name: task for task in load_tasks(config)}
        self.supernet: Supernet = make_supernet(config.space, tuple(self.tasks.values()))
        try:
            content = read_nested(config.path)
            self.supernet.load_state_dict(content["weights"])
            self.choices = choices_of(Choices.of(config.space), content["blocks"])
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{config.path}: the weights of a supernetwork cannot be read ({error}); train it "
                "anew by the same command with --restart true"
            ) from error
        self.supernet.to(self._device).eval()

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "cpu") -> "SharedWeights":
        """The supernetwork of a run folder.

        Raises:
            CheckpointError: the folder holds none that is trained to its end; or it is damaged.
        """
        folder = Path(folder)
        if not (folder / SUPERNET).exists():
            begun = (folder / SETTINGS).exists()
            raise CheckpointError(
                f"{folder}: no trained supernetwork ({SUPERNET} is missing); "
                + ("give the command that began it again" if begun else "train one")
                + ": python -m analogmed.search supernet"
            )
        settings = ["--config", str(folder / SETTINGS), "--out", str(folder)]
        return cls(parse(SupernetConfig, settings, prog="supernet"), device=device)

    @property
    def space(self) -> Space:
        """The networks that it holds."""
        return self.config.space

    @cached_property
    def task(self) -> Task:
        """The data; of several tasks the first."""
        return next(iter(self.tasks.values()))

    def score(self, genotype: Genotype, task: str | None = None) -> float:
        """Mean Dice of a network on validation patients, with the shared weights.

        Args:
            genotype: of the space.
            task: name of one of several tasks; the first by default.

        Raises:
            ConfigError: the network is not of the space, or the task is unknown.
        """
        name = task or self.task.name
        if (name, genotype) not in self._scores:
            network = self.supernet.subnet(genotype, name)
            with evaluating(network), torch.no_grad():
                self._scores[name, genotype] = self._validation(name)([network])
        return self._scores[name, genotype]

    def _validation(self, name: str) -> MeanDice:
        if name not in self._validations:
            self._validations[name] = MeanDice(
                self.tasks[name],
                self.tasks[name].validation,
                limit_bytes=self.config.loading.cache_bytes,
                batch_size=self.config.batch_size,
                device=self._device,
            )
        return self._validations[name]


def refuse_leakage(folders: Iterable[Path], task: Task) -> None:
    """Refuse supernetworks that know patients which a task keeps for testing.

    Args:
        folders: run folders of supernetworks.
        task: with the split that the winner of a search will be tested with.

    Raises:
        LeakageError: names the supernetwork and its patients.
        CheckpointError: a folder holds no trained supernetwork.
    """
    tested = {case.patient_id for case in task.test}
    for folder in folders:
        own = SharedWeights.load(folder).tasks.get(task.name)
        seen = tested & {case.patient_id for case in (*own.train, *own.validation)} if own else None
        if seen:
            names = sorted(seen)
            raise LeakageError(
                f"{folder}: the supernetwork has seen {len(names)} of the patients that task "
                f"{task.name} keeps for testing ({', '.join(names[:3])}); give both the same "
                f"task settings, those of {folder / SETTINGS}"
            )
