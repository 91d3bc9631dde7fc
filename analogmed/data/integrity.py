"""Integrity check of a data set: reads every file completely and reports all problems at once."""

import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analogmed.data.case import Case, Task
from analogmed.data.datasets.listing import Finding, Layout, Listing, recognise
from analogmed.data.datasets.nifti_layout import NIFTI, list_by_patterns
from analogmed.data.integrity_grids import grid_differences
from analogmed.data.plausibility import absence_of, doubtful_intensities, missing_classes
from analogmed.data.readers.images import read_image
from analogmed.data.readers.nifti import Volume, read_nifti
from analogmed.data.samples import binary_mask, check_same_shape, label_values
from analogmed.data.settings import TaskConfig
from analogmed.data.splits import check_split_file, find_duplicates
from analogmed.data.tasks import LAYOUTS
from analogmed.data.volumes import VolumeReader, check_same_grid
from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError, MissingSettingError
from analogmed.foundation.files import require_folder
from analogmed.foundation.progress import ProgressBar

T = TypeVar("T")

__all__ = ["Finding", "Report", "verify"]

_UNFOLDED = (1000, 24)
_MIN_COLUMNS = 60


@dataclass(frozen=True)
class Report:
    """Result of :func:`verify`.

    Attributes:
        path: folder or file that was checked.
        layout: name of the layout.
        problems: faults that make a loader raise or return wrong data.
        warnings: valid but unusual content: duplicates, empty labels, constant images, and
            orientations or voxel sizes that differ between cases.
        counts: number of cases, files, and findings by kind.
    """

    path: Path
    layout: str
    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether there are no problems; warnings may exist."""
        return not self.problems

    def __str__(self) -> str:
        """Return a plain text table: wrapped to the terminal, or one line per finding in a file."""
        out = io.StringIO()
        columns = shutil.get_terminal_size(_UNFOLDED).columns
        console = Console(file=out, width=max(_MIN_COLUMNS, columns))
        console.print(Text(f"{self.path}: {self.layout}"), soft_wrap=True)
        root = self.path.parent if self.path.is_file() else self.path
        for title, findings in (("problem", self.problems), ("warning", self.warnings)):
            if findings:
                console.print(_table(title, findings, root))
        console.print(", ".join(f"{name}: {count}" for name, count in self.counts.items()))
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def verify(
    path: Path | str,
    images: Sequence[str] = (),
    label: str = "",
    task: TaskConfig | None = None,
) -> Report:
    """Check every file of a data set, and the consistency between files.

    Supports the LGG, DSB 2018 and Decathlon layouts, BraTS, MedMNIST, ChestX-ray14, and folders of
    NIfTI files. Each file is read completely with the loaders' own checks (checksums, header,
    geometry, finite voxels). Then pairs are compared (shape, affine, label values), and valid cases
    are read again by the loader itself. A fault in one case does not hide faults in others.

    Args:
        path: folder of the data set, or its parent; or a MedMNIST file.
        images, label: file patterns of NIfTI files, as of
            :func:`analogmed.data.datasets.nifti_folder.load_nifti`; without them, the layout is
            recognised.
        task: settings of the data for training or evaluation; with them, patients of the split
            file, label values of the classes, and intensities of the modality are checked too.

    Returns:
        All problems and warnings. The progress is shown on stderr.

    Raises:
        ConfigError: only one of ``images`` and ``label`` is given, a pattern is invalid, or the
            task does not have one of its settings or options.
        DataError: the folder does not exist, has no known layout, or no file matches ``images``.
    """
    if task is not None:
        with suppress(MissingSettingError):  # a warning below
            task.check()
    found = _Findings([], [])
    layout, folder, listing = _listed(Path(path), tuple(images), label, found)
    sound = []
    with ProgressBar(len(listing.cases), unit="case", title="verify") as bar:
        for case in listing.cases:
            before = len(found.problems)
            _check_case(case, layout, listing, found)
            if len(found.problems) == before:
                sound.append(case)
            bar.update()
    found.warnings += _duplicates(sound)
    found.warnings += grid_differences(folder, found.first_volumes)
    if task is not None and listing.cases:
        _check_settings(replace(task, root=Path(path)), listing, found)
    if not listing.cases:
        found.problems.append(Finding(folder, "no complete case", "download it again"))
    counts = {
        "cases": len(listing.cases),
        "sound cases": len(sound),
        "files": _count_files(listing),
        **found.counts,
        "problems": len(found.problems),
        "warnings": len(found.warnings),
    }
    return Report(folder, layout.name, tuple(found.problems), tuple(found.warnings), counts)


def _listed(
    path: Path, images: tuple[str, ...], label: str, found: "_Findings"
) -> tuple[Layout, Path, Listing]:
    """Return layout, folder and cases of a data set, by patterns or by its recognised layout."""
    if bool(images) != bool(label):
        raise ConfigError(
            f"images, label: expected both or none, got images {list(images)} and label {label!r}. "
            "Give the file patterns of both, as in task.options."
        )
    if images:
        folder = require_folder(path)
        return NIFTI, folder, list_by_patterns(folder, images, label, found.problem)
    layout, folder = recognise(path, LAYOUTS)
    return layout, folder, layout.list(folder, found.problem, found.warning)


def _count_files(listing: Listing) -> int:
    return len({path for case in listing.cases for path in (*case.images, *case.labels)})


@dataclass
class _Findings:
    problems: list[Finding]
    warnings: list[Finding]
    counts: Counter[str] = field(default_factory=Counter)
    first_volumes: dict[str, Volume] = field(default_factory=dict)
    """First volume of each case without its voxels, by case id."""
    label_values: dict[int, tuple[Path, int]] = field(default_factory=dict)
    """First file and number of files of each label value of volumes."""
    labels: int = 0
    """Number of label files of volumes that could be read."""

    def problem(self, path: Path, what: str, hint: str) -> None:
        """Record a problem."""
        self.problems.append(Finding(path, what, hint))

    def warning(self, path: Path, what: str, hint: str) -> None:
        """Record a warning."""
        self.warnings.append(Finding(path, what, hint))


def _check_case(case: Case, layout: Layout, listing: Listing, found: _Findings) -> None:
    before = len(found.problems)
    if listing.check is not None:
        with _noting(case.images[0], found):
            listing.check(case, found.problem, found.warning)
    elif listing.is_volumetric:
        _check_volumes(case, listing, found)
    elif not layout.is_archive:
        _check_images(case, listing, found)
    if listing.read is not None and len(found.problems) == before:
        with _noting(case.images[0], found):
            listing.read(case)


def _check_settings(settings: TaskConfig, listing: Listing, found: _Findings) -> None:
    """Check the split file and the classes of a task against all cases."""
    folder, cases = settings.root or Path(), listing.cases
    if not settings.name.startswith("phantom_"):  # loading one would write it
        try:
            task = _undivided(settings)
        except MissingSettingError as error:
            what = f"split and classes are not checked: {error}"
            found.warning(folder, what, "complete the settings of the task")
            return
        except AnalogmedError as error:
            # other errors are due to problems that are listed
            if isinstance(error, ConfigError) or not found.problems:
                found.problems.append(Finding.of(folder, error))
            return
        cases = (*task.train, *task.validation, *task.test)
        if isinstance(task.read, VolumeReader):
            _check_classes(task, task.read, folder, found)
    if settings.split_file is not None:
        check_split_file(cases, settings.split_file, found.problem, found.warning)


def _undivided(settings: TaskConfig) -> Task:
    """Load all cases of a task, in one split if its loader has shares."""
    settings = replace(settings, split_file=None)
    try:
        return replace(settings, shares=(0.0, 0.0, 1.0)).load()
    except ConfigError:
        return settings.load()


def _check_classes(task: Task, reader: VolumeReader, folder: Path, found: _Findings) -> None:
    """Check that each class occurs in a label file, and each value in a class."""
    if not found.label_values:
        return
    missing = missing_classes(task, reader, found.label_values)
    if missing:
        note = found.problem if len(missing) == len(task.classes) else found.warning
        what = absence_of(missing, found.labels, found.label_values)
        note(folder, what, f"correct {reader.classes_from}")
    if reader.allowed_values is None:
        of_classes = {0, *(value for values in reader.class_values for value in values)}
        for value in sorted(found.label_values.keys() - of_classes):
            first, count = found.label_values[value]
            found.warning(
                first,
                f"label value {value}, in {count} of {found.labels} label files, is in no class "
                "and becomes background",
                f"add it to {reader.classes_from} unless it is background",
            )
    try:
        for what, advice in doubtful_intensities(reader, task.test[0]):
            found.warning(task.test[0].images[0], what, advice)
    except DataError:
        return  # a problem of its own


def _check_images(case: Case, listing: Listing, found: _Findings) -> None:
    """Check that slices or a field have one shape and that masks have two values."""
    images = _read_all(case.images, read_image, found)
    labels = _read_all(case.labels if listing.has_masks else (), read_image, found)
    everything = images | labels
    for path, pixels in everything.items():
        first, reference = next(iter(everything.items()))
        with _noting(path, found):
            check_same_shape(reference.shape[:2], first, pixels.shape[:2], path)
    masks = []
    for path, pixels in labels.items():
        with _noting(path, found):
            masks.append(binary_mask(pixels, path))
    if listing.has_masks:
        found.counts["empty masks"] += sum(not mask.any() for mask in masks)
    if masks and not any(mask.any() for mask in masks):
        found.warnings.append(_empty_label(case))
    found.warnings += _constant(images)


def _check_volumes(case: Case, listing: Listing, found: _Findings) -> None:
    """Check that the volumes of a case share one grid and that labels have allowed integers."""
    images = _read_all(case.images, read_nifti, found)
    labels = _read_all(case.labels, read_nifti, found)
    volumes = [*images.values(), *labels.values()]
    if volumes:
        found.first_volumes[case.case_id] = replace(volumes[0], data=np.empty((0, 0, 0)))
    for volume in volumes[1:]:
        with _noting(volume.path, found):
            check_same_grid(volumes[0], volume)
    for path, label in labels.items():
        with _noting(path, found):
            for value in label_values(label.data, listing.label_values, path):
                first, count = found.label_values.get(value, (path, 0))
                found.label_values[value] = (first, count + 1)
            found.labels += 1
        if not np.any(label.data):
            found.counts["empty masks"] += 1
            found.warnings.append(_empty_label(case))
    found.warnings += _constant({path: volume.data for path, volume in images.items()})


@contextmanager
def _noting(path: Path, found: _Findings) -> Iterator[None]:
    try:
        yield
    except AnalogmedError as error:
        hint = "correct it from the source, or remove the case"
        found.problems.append(Finding.of(path, error, hint))


def _read_all(paths: Iterable[Path], read: Callable[[Path], T], found: _Findings) -> dict[Path, T]:
    """Return the content of all readable files; record the others as problems."""
    contents: dict[Path, T] = {}
    for path in paths:
        with _noting(path, found):
            contents[path] = read(path)
    return contents


def _empty_label(case: Case) -> Finding:
    path = case.labels[0].parent if len(case.labels) > 1 else case.labels[0]
    what = f"case {case.case_id}: the label is all background"
    return Finding(path, what, "Dice of such a case is undefined")


def _constant(images: dict[Path, np.ndarray]) -> Iterator[Finding]:
    for path, values in images.items():
        if values.min() == values.max():
            yield Finding(path, f"constant image, every value is {values.min()}", "look at it")


def _duplicates(cases: Iterable[Case]) -> Iterator[Finding]:
    for first, *others in find_duplicates(cases):
        for other in others:
            what = f"case {other.case_id}: the same scan as case {first.case_id}, byte for byte"
            yield Finding(other.images[0], what, "keep both in one split, or drop one")


def _table(title: str, findings: Iterable[Finding], root: Path) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="")
    for name in ("file", title, "what to do"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        inside = finding.path.is_relative_to(root)
        shown = finding.path.relative_to(root) if inside else finding.path
        table.add_row(Text(str(shown)), Text(finding.what), Text(finding.hint))
    return table
