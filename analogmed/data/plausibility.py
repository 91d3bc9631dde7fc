"""Checks of settings against the data: label values that never occur, and intensities."""

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from analogmed.data.case import Case, Task
from analogmed.data.volumes import VolumeReader
from analogmed.foundation.errors import ConfigError, DataError

_AIR_HU = -900
_MOST_LISTED = 20
_MOST_READ = 20


def check_plausible(task: Task, cases: Sequence[Case]) -> None:
    """Compare the settings of volumes with their files, before anything expensive is computed.

    Label files are read until each class has been found, usually one; if some have been found, at
    most 20. Damaged files are left to the caller, which reads all cases.

    Args:
        task: task of the cases; only volumes are checked.
        cases: test or training cases.

    Raises:
        ConfigError: no case contains any class.
    """
    if not cases or not isinstance(task.read, VolumeReader):
        return
    try:
        _check_classes(task, task.read, cases)
        _check_intensities(task.read, cases[0])
    except DataError:
        return


def _check_classes(task: Task, reader: VolumeReader, cases: Sequence[Case]) -> None:
    stored: set[int] = set()
    read, missing = 0, {}
    for read, case in enumerate(cases, start=1):
        stored.update(reader.stored_labels(case))
        missing = missing_classes(task, reader, stored)
        if not missing:
            return
        if read == _MOST_READ and len(missing) < len(task.classes):
            break
    message = f"task {task.name}: {absence_of(missing, read, stored)}"
    if len(missing) == len(task.classes):
        raise ConfigError(
            f"{message}. Correct {reader.classes_from}; if the values are right, choose cases with "
            "these classes by task.split_seed, task.shares or task.split_file."
        )
    warnings.warn(f"{message}. Check {reader.classes_from}.", stacklevel=4)


def missing_classes(
    task: Task, reader: VolumeReader, stored: Collection[int]
) -> dict[str, tuple[int, ...]]:
    """Return the classes of a task without any of the stored label values, with their values."""
    classes = zip(task.classes, reader.class_values, strict=True)
    return {name: values for name, values in classes if not set(values).intersection(stored)}


def absence_of(missing: Mapping[str, Sequence[int]], cases: int, stored: Iterable[int]) -> str:
    """Describe classes whose values are in no label file.

    Args:
        missing: label values by class name.
        cases: number of cases whose label files were read.
        stored: all values in these files.
    """
    listed = ", ".join(f"{name} {list(values)}" for name, values in missing.items())
    return (
        f"no label file of {cases} cases contains the values of {listed}; they contain "
        f"{', '.join(map(str, sorted(stored)[:_MOST_LISTED]))}"
    )


def _check_intensities(reader: VolumeReader, case: Case) -> None:
    """Warn if intensities are not those of the modality that the settings name."""
    for found, advice in doubtful_intensities(reader, case):
        warnings.warn(f"{found}. {advice}.", stacklevel=4)


def doubtful_intensities(reader: VolumeReader, case: Case) -> Iterator[tuple[str, str]]:
    """Yield channels of a case without the intensities of their modality, each with an advice."""
    stored = reader.stored_channels(case)
    channels = zip(reader.channels, reader.intensities, stored, strict=False)
    for name, intensity, data in channels:
        low, high = float(data.min()), float(data.max())
        found = f"case {case.case_id}: channel {name} has values from {low:g} to {high:g}"
        if intensity == "ct" and low >= 0:
            yield (
                f"{found}, but is normalised as a CT, whose air is about -1000 HU",
                "If it is no CT in Hounsfield units, set task.options.intensity, for instance to "
                "z_score_foreground",
            )
        elif intensity.startswith("z_score") and low <= _AIR_HU and data.dtype.kind in "iu":
            yield (
                f"{found} like a CT in Hounsfield units, but is normalised by a z-score",
                "If it is a CT, set task.options.intensity to ct",
            )
