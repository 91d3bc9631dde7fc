"""Patient split of a search, which never reads the test patients of its winner."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from analogmed.data import Case, Task
from analogmed.data.settings import TaskConfig
from analogmed.data.splits import SHARES, split_by_patient
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.seeds import derive_seed

SELECTION = "selection.json"
_FEWEST = 3


def selection_task(
    task: TaskConfig, folder: Path, *, seed: int = 0, shares: tuple[float, float, float] = SHARES
) -> TaskConfig:
    """Return the task of a search, whose test split contains selection patients instead.

    The patients of the task's training and validation splits are split again: candidates are
    trained and validated on two of the new ones, and compared on the third, the selection patients.
    Such a network may therefore be tested on the task's own test patients, which are left out.

    Args:
        task: task with the split that the winner will be tested with.
        folder: folder that the split is written to, as ``selection.json``.
        seed: seed of the random assignment of patients.
        shares: shares of these patients for training, validation and selection.

    Returns:
        the same data under the split of that file.

    Raises:
        DataError: fewer than three patients are not kept for testing.
    """
    parts = selection_split(task.load(), seed=seed, shares=shares)
    return write_selection(task, folder, parts)


def write_selection(
    task: TaskConfig, folder: Path, parts: Mapping[str, list[str]], *, replaces: bool = True
) -> TaskConfig:
    """Write the split of a search, and return the task under this split.

    Args:
        task: task with the split that the winner will be tested with.
        folder: folder that the split is written to, as ``selection.json``.
        parts: patients of each split, as :func:`selection_split` returns them.
        replaces: whether a different split in that file is replaced.

    Raises:
        ConfigError: the file contains a different split, and ``replaces`` is false.
    """
    path = folder / SELECTION
    text = json.dumps(parts, indent=1) + "\n"
    if not replaces and path.exists() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"{path}: holds the split of another search; expected the patients of this one. Give "
            "another --out"
        )
    write_text_atomically(path, text)
    return replace(task, split_file=path)


def selection_split(
    task: Task, *, seed: int = 0, shares: tuple[float, float, float] = SHARES
) -> dict[str, list[str]]:
    """Return the patients of training, validation and selection (``test``), without test patients.

    Args:
        task: task with the split that the winner will be tested with.
        seed: seed of the random assignment.
        shares: shares of training, validation and selection.

    Raises:
        DataError: there are fewer than three such patients.
    """
    cases = (*task.train, *task.validation)
    found = len({case.patient_id for case in cases})
    if found < _FEWEST:
        raise DataError(
            f"task {task.name}: a search needs {_FEWEST} patients or more that are not kept for "
            f"testing, to train, validate and select on, and there are {found}; change task.shares"
        )
    train, validation, selection = split_by_patient(cases, shares, derive_seed(seed, "selection"))
    return {
        "train": patients_of(train),
        "validation": patients_of(validation),
        "test": patients_of(selection),
    }


def patients_of(cases: tuple[Case, ...]) -> list[str]:
    """Return the patients of cases, sorted."""
    return sorted({case.patient_id for case in cases})
