"""Splits by patient, and checks for patients or scans in more than one split."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analogmed.data.case import Case, Task
from analogmed.data.readers.files import digest_of_ends, digest_of_parts, file_size
from analogmed.foundation.errors import AnalogmedError, ConfigError, LeakageError
from analogmed.foundation.files import file_digest
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.strict_yaml import read_yaml
from analogmed.foundation.text import known_name, nearest

Cases = tuple[Case, ...]
SPLITS = ("train", "validation", "test")
_TOLERANCE = 1e-6
_NEEDED_FIRST = (2, 0, 1)
_MOST_LISTED = 10


SHARES = (0.6, 0.1, 0.3)
"""Shares of patients for training, validation and test, as in the settings of a task."""


@dataclass(frozen=True)
class SplitSettings:
    """Assignment of cases to train, validation and test.

    Attributes:
        seed: seed of the random assignment of patients.
        shares: shares of patients in train, validation and test; they sum to 1.
        file: YAML or JSON file with the patient ids of each split; replaces the random assignment.
    """

    seed: int = 0
    shares: tuple[float, ...] = SHARES
    file: Path | str | None = None


def split_cases(cases: Sequence[Case], settings: SplitSettings) -> tuple[Cases, Cases, Cases]:
    """Split cases into train, validation and test according to the settings.

    Raises:
        ConfigError: the shares or the split file are invalid.
        LeakageError: the split file lists a patient twice.
    """
    if settings.file is not None:
        return split_from_file(cases, settings.file)
    return split_by_patient(cases, settings.shares, settings.seed)


def split_by_patient(
    cases: Iterable[Case], shares: Sequence[float], seed: int
) -> tuple[Cases, Cases, Cases]:
    """Assign patients, with all their cases, randomly to train, validation and test.

    The assignment depends on the patient ids and the seed, not on the order of the cases.

    Args:
        cases: all cases of the data set.
        shares: shares of train, validation and test; they sum to 1.
        seed: root seed of the assignment.

    Returns:
        Cases of train, validation and test, in their given order. With three or more patients, each
        split with a share above 0 has at least one. Of two patients, one is in test and one in
        train; a single patient is in test. A split with a share of 0 is empty.

    Raises:
        ConfigError: the shares are not three numbers in [0, 1] with sum 1.
    """
    cases = tuple(cases)
    shares = checked_shares(shares)
    patients = sorted({case.patient_id for case in cases})
    random = np.random.default_rng(derive_seed(seed, "split"))
    drawn = [patients[i] for i in random.permutation(len(patients))]
    bounds = list(itertools.accumulate(_counts(len(patients), shares), initial=0))
    groups = [set(drawn[start:end]) for start, end in itertools.pairwise(bounds)]
    train, validation, test = (_of_patients(cases, group) for group in groups)
    return train, validation, test


def split_from_file(cases: Iterable[Case], path: Path | str) -> tuple[Cases, Cases, Cases]:
    """Split cases by a file: ``{train: [patient ids], validation: [...], test: [...]}``.

    Args:
        cases: all cases of the data set; patients missing from the file are in no split.
        path: YAML (``.yaml``, ``.yml``) or JSON file. A split may be omitted.

    Raises:
        ConfigError: the file is missing, has another structure, or names an unknown patient.
        LeakageError: a patient appears in more than one split.
    """
    cases = tuple(cases)
    table = _read_table(Path(path))
    if unknown := _unknown(table, {case.patient_id for case in cases}):
        raise ConfigError(f"{path}: {unknown}")
    train, validation, test = (_of_patients(cases, set(table.get(name, ()))) for name in SPLITS)
    check_leakage(train, validation, test)
    return train, validation, test


def check_split_file(
    cases: Iterable[Case],
    path: Path,
    problem: Callable[[Path, str, str], None],
    warning: Callable[[Path, str, str], None],
) -> None:
    """Report each fault of a split file for which loading fails, and patients that it leaves out.

    Args:
        cases: all cases of the data set.
        path: file as of :func:`split_from_file`.
        problem: receives the file, patients that the data lack or that are in more than one split,
            and the suggested action.
        warning: receives the same for patients in no split, or several times in one.
    """
    try:
        table = _read_table(path)
    except AnalogmedError as error:
        problem(path, str(error), "correct it, or remove task.split_file")
        return
    known = {case.patient_id for case in cases}
    if unknown := _unknown(table, known):
        problem(path, unknown, "correct their names in the file, or remove them")
    if several := _in_several(table):
        problem(path, f"patients in more than one split: {several}", "give each to one split")
    for name, ids in table.items():
        if twice := sorted({patient for patient in ids if ids.count(patient) > 1}):
            what = f"patients more than once in split {name}: {', '.join(twice)}"
            warning(path, what, "each counts once; give each once")
    if left_out := sorted(known.difference(*table.values())):
        listed = ", ".join(left_out[:_MOST_LISTED]) + ", ..." * (len(left_out) > _MOST_LISTED)
        verb = "is" if len(left_out) == 1 else "are"
        what = f"{len(left_out)} of {len(known)} patients {verb} in no split: {listed}"
        warning(path, what, "they are not used; add each to one split if they are needed")


def _unknown(table: Mapping[str, Iterable[str]], known: Set[str]) -> str:
    """Describe the patients of a split file that the data lack; empty without any."""
    unknown = sorted({patient for ids in table.values() for patient in ids} - known)
    if not unknown:
        return ""
    return (
        f"patients {', '.join(unknown)} are not in the data set; it has {len(known)}, for instance "
        f"{', '.join(sorted(known)[:3])}"
    )


def _in_several(parts: Mapping[str, Iterable[str]]) -> str:
    """List the patients in more than one split, each with its splits; empty without any."""
    parts_of: dict[str, set[str]] = defaultdict(set)
    for name, patients in parts.items():
        for patient in patients:
            parts_of[patient].add(name)
    return "; ".join(
        f"{patient} ({', '.join(name for name in SPLITS if name in names)})"
        for patient, names in sorted(parts_of.items())
        if len(names) > 1
    )


def check_leakage(train: Iterable[Case], validation: Iterable[Case], test: Iterable[Case]) -> None:
    """Raise LeakageError if splits share a patient.

    Raises:
        LeakageError: names the patients and their splits.
    """
    parts = dict(zip(SPLITS, (train, validation, test), strict=True))
    if leaks := _in_several({name: {c.patient_id for c in part} for name, part in parts.items()}):
        raise LeakageError(f"patients in more than one split: {leaks}; give each to one split")


def find_duplicates(cases: Iterable[Case]) -> tuple[Cases, ...]:
    """Return groups of cases whose images contain the same bytes.

    Files are read completely only if their lengths and their ends agree.

    Args:
        cases: any cases.

    Returns:
        Groups of two or more cases each, in the order of their first case. Recompressed copies of a
        scan have other bytes and are not detected.

    Raises:
        DataError: an image file is missing, empty or unreadable.
    """
    keys: tuple[Callable[[Case], Hashable], ...] = (
        lambda case: case.digest or tuple(file_size(path) for path in case.images),
        lambda case: case.digest or tuple(digest_of_ends(path) for path in case.images[:1]),
        lambda case: case.digest or tuple(file_digest(path) for path in case.images),
    )
    cases = tuple(case for case in cases if case.images)
    groups: list[Cases] = [cases]
    for key in keys:
        groups = [alike for group in groups for alike in _alike(group, key)]
    order = {case: number for number, case in enumerate(cases)}
    return tuple(sorted(groups, key=lambda group: order[group[0]]))


def _alike(cases: Cases, key: Callable[[Case], Hashable]) -> list[Cases]:
    """Return groups of two or more cases with an equal key."""
    groups: dict[Hashable, list[Case]] = defaultdict(list)
    for case in cases:
        groups[key(case)].append(case)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def check_duplicates(
    train: Iterable[Case], validation: Iterable[Case], test: Iterable[Case]
) -> tuple[Cases, ...]:
    """Return duplicate scans within a split; raise LeakageError for duplicates across splits.

    Cases whose first image file is missing or empty are ignored, because reading them raises.

    Returns:
        The groups within one split, as in :func:`find_duplicates`.

    Raises:
        LeakageError: one scan appears in more than one split; the message names the cases.
    """
    split_of: dict[Case, str] = {}
    for name, cases in zip(SPLITS, (train, validation, test), strict=True):
        split_of.update((case, name) for case in cases if _has_image(case))
    groups = find_duplicates(split_of)
    crossing = [group for group in groups if len({split_of[case] for case in group}) > 1]
    if crossing:
        listed = "; ".join(
            " = ".join(f"{case.case_id} ({split_of[case]})" for case in group) for group in crossing
        )
        raise LeakageError(
            f"the same scan in more than one split, byte for byte: {listed}; remove one of each, "
            "or put both in one split by task.split_file"
        )
    return groups


@dataclass(frozen=True)
class SeenData:
    """Data that a network has seen in training or selection.

    Attributes:
        name: name of the task.
        patients: names of the patients.
        scans: digests of their scans, as of :func:`scan_digests`; empty if unknown.
    """

    name: str
    patients: frozenset[str]
    scans: frozenset[str]

    @classmethod
    def of(cls, name: str, cases: Iterable[Case]) -> "SeenData":
        """Return the patients and scans of cases of a task."""
        cases = tuple(cases)
        patients = frozenset(case.patient_id for case in cases)
        return cls(name, patients, frozenset(scan_digests(cases)))

    def tested_in(self, task: Task) -> set[str]:
        """Return the patients of these data that are test patients of a task.

        They have the same scan, under any name; in data of the same name, also the same name.
        """
        namesakes = self._namesakes(task) if self.name == task.name else set()
        if not self.scans:
            return namesakes
        return namesakes | {
            case.patient_id for case in task.test if self.scans.intersection(scan_digests([case]))
        }

    def namesakes_in(self, task: Task) -> set[str]:
        """Return test patients of a task with the names of these patients, but other scans."""
        namesakes = self._namesakes(task)
        return namesakes - self.tested_in(task) if namesakes else namesakes

    def _namesakes(self, task: Task) -> set[str]:
        return {case.patient_id for case in task.test} & self.patients


def scan_digests(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return a digest of the scan of each case, sorted, from parts and lengths of its images.

    Cases whose first image file is missing or empty are ignored, because reading them raises.
    """
    return tuple(sorted({_scan_digest(case) for case in cases if _has_image(case)}))


_DIGEST_DIGITS = 16


def _scan_digest(case: Case) -> str:
    if case.digest:  # one of several images of a file
        return case.digest[:_DIGEST_DIGITS]
    sizes = [file_size(path) for path in case.images]
    content = f"{sizes} {digest_of_parts(case.images[0])}"
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_DIGITS]


def _has_image(case: Case) -> bool:
    return bool(case.images) and case.images[0].is_file() and case.images[0].stat().st_size > 0


def checked_shares(shares: Any) -> tuple[float, ...]:
    """Return the shares of train, validation and test.

    Raises:
        ConfigError: they are not three numbers in [0, 1] with sum 1.
    """
    listed = tuple(shares) if isinstance(shares, list | tuple) else ()
    if len(listed) != 3 or not all(_is_share(share) for share in listed):
        raise ConfigError(f"shares: expected three numbers from 0 to 1, got {shares!r}")
    if abs(sum(listed) - 1) > _TOLERANCE:
        raise ConfigError(f"shares {listed} add up to {sum(listed):g}, expected 1")
    return listed


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _counts(n_patients: int, shares: Sequence[float]) -> list[int]:
    """Return the patients per split: rounded down, then the largest remainders are increased."""
    if n_patients < sum(share > 0 for share in shares):
        first = sorted(_NEEDED_FIRST, key=lambda i: shares[i] == 0)[:n_patients]
        return [int(i in first) for i in range(3)]
    exact = [share * n_patients for share in shares]
    counts = [int(number + _TOLERANCE) for number in exact]
    by_remainder = sorted(range(3), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: n_patients - sum(counts)]:
        counts[i] += 1
    for i in range(3):
        if shares[i] > 0 and counts[i] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return counts


def _of_patients(cases: Cases, patients: set[str]) -> Cases:
    return tuple(case for case in cases if case.patient_id in patients)


def _read_table(path: Path) -> dict[str, list[str]]:
    table = {known_name(key, SPLITS): ids for key, ids in read_yaml(path).items()}
    for key, ids in table.items():
        if key not in SPLITS:
            raise ConfigError(
                f"split file {path}: {key!r} is no split; {nearest(str(key), SPLITS)}"
            )
        if not (isinstance(ids, list) and all(isinstance(one, str) for one in ids)):
            raise ConfigError(
                f"split file {path}: {key} must be a list of patient ids in quotes, not {ids!r}"
            )
    return table
