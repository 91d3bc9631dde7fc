"""Generation of phantom data sets on disk, in the layouts of real data sets."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from analogmed.data.phantoms.brain import write_brain
from analogmed.data.phantoms.chest import write_chest
from analogmed.data.phantoms.ecg import write_ecg
from analogmed.data.phantoms.nuclei import write_nuclei
from analogmed.data.phantoms.ranges import check_phantom
from analogmed.data.phantoms.spleen import write_spleen
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import is_occupied, write_folder_atomically
from analogmed.foundation.strict_yaml import MAX_JSON_BYTES, parse_json, read_text
from analogmed.foundation.temporary import temporary_folder

PHANTOM_VERSION = 1
"""Version, incremented whenever a seed yields other bytes; older phantoms are regenerated."""

MARKER = "phantom.json"


@dataclass(frozen=True)
class _Kind:
    folder: str
    write: Callable[[Path, int, int, int], None]
    n_patients: int
    size: int


_KINDS = {
    "brain": _Kind("kaggle_3m", write_brain, n_patients=24, size=64),
    "spleen": _Kind("Task09_Spleen", write_spleen, n_patients=12, size=96),
    "nuclei": _Kind("stage1_train", write_nuclei, n_patients=60, size=128),
    "chest": _Kind("chestxray14", write_chest, n_patients=480, size=64),
    "ecg": _Kind("mitdb", write_ecg, n_patients=80, size=60),
}

PHANTOM_KINDS = tuple(_KINDS)
"""Kinds of phantom that :func:`write_phantom` supports."""


def write_phantom(
    kind: str,
    root: Path | str,
    seed: int = 0,
    *,
    n_patients: int | None = None,
    size: int | None = None,
) -> Path:
    """Write a phantom data set below ``root``, or return an existing identical one.

    ``brain`` draws FLAIR-like slices with a glioma (``kaggle_3m``, 24 patients of 8 slices,
    64 x 64), ``spleen`` draws abdominal CT (``Task09_Spleen``, 12 volumes, 96 x 96 x 24),
    ``nuclei`` draws microscopy fields (``stage1_train``, 60 fields, 128 x 128), ``chest`` draws
    chest X-rays with six kinds of findings (``chestxray14``, 480 patients of one to six images,
    64 x 64), and ``ecg`` writes 12 leads with annotated heartbeats (``mitdb``, 80 patients, 60 s).
    References come from the latent anatomy (masks with an annotator's variation), and not
    from the visible image.

    The folder appears only when it is complete, and contains its seed, version and parameters in
    ``phantom.json``. Equal arguments yield identical bytes.

    Args:
        kind: ``"brain"``, ``"spleen"``, ``"nuclei"``, ``"chest"`` or ``"ecg"``.
        root: parent folder; created if missing.
        seed: root seed of all draws.
        n_patients: number of patients (of fields for nuclei), at least 1.
        size: number of pixels along both in-plane axes, or seconds of an ECG, 32 to 512.

    Returns:
        Folder with the data: ``root/kaggle_3m``, ``root/Task09_Spleen``, ``root/stage1_train``,
        ``root/chestxray14`` or ``root/mitdb``.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the folder exists with other content; it is left unchanged.
    """
    if kind not in _KINDS:
        raise ConfigError(f"phantom kind {kind!r}; expected one of {', '.join(_KINDS)}")
    known = _KINDS[kind]
    n_patients = known.n_patients if n_patients is None else n_patients
    size = known.size if size is None else size
    check_phantom(seed, n_patients, size)
    marker = {
        "kind": kind,
        "version": PHANTOM_VERSION,
        "seed": seed,
        "n_patients": n_patients,
        "size": size,
    }
    folder = Path(root) / known.folder
    if not _is_up_to_date(folder, marker):
        _write_whole(folder, marker, lambda part: known.write(part, seed, n_patients, size))
    return folder


def _is_up_to_date(folder: Path, marker: dict[str, object]) -> bool:
    """Return whether this phantom exists already; an older version of it is removed."""
    if not is_occupied(folder):
        return False
    found = _read_marker(folder)
    if found == marker and not _has_unlabelled_fields(folder):
        return True
    if {**found, "version": PHANTOM_VERSION} == marker:
        _discard(folder)
        return False
    wanted = ", ".join(f"{key} {value}" for key, value in marker.items())
    there = ", ".join(f"{key} {value}" for key, value in found.items())
    raise DataError(
        f"{folder}: holds another phantom ({there}); expected {wanted}; "
        "choose another root, or delete the folder"
    )


def _has_unlabelled_fields(folder: Path) -> bool:
    """Return whether fields of nuclei lack masks, as some small ones of earlier releases do."""
    return any(not any(masks.iterdir()) for masks in folder.glob("*/masks"))


def _read_marker(folder: Path) -> dict[str, object]:
    path = folder / MARKER
    if not path.exists():
        raise DataError(
            f"{folder}: holds files but no {MARKER}, so it may be real data; "
            "choose another root for the phantom"
        )
    try:
        text = read_text(path, MAX_JSON_BYTES, error=DataError)
        content = parse_json(text, str(path), error=DataError)
    except DataError as error:
        raise DataError(f"{path}: unreadable ({error}); delete the folder") from error
    if not isinstance(content, dict):
        raise DataError(f"{folder / MARKER}: expected an object; delete the folder")
    return content


def _write_whole(folder: Path, marker: dict[str, object], write: Callable[[Path], None]) -> None:
    try:
        with write_folder_atomically(folder) as part:
            write(part)
            (part / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    except FileExistsError:
        # Another process finished first: its folder is used if it contains the same phantom.
        if not _is_up_to_date(folder, marker):
            raise


def _discard(folder: Path) -> None:
    """Move a folder aside in one step, then delete it."""
    with temporary_folder(folder.parent, folder.name) as bin_, suppress(FileNotFoundError):
        folder.rename(bin_ / folder.name)
