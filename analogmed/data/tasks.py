"""Tasks by name: built-in data sets, phantoms and plugins."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from analogmed.data.case import Case, Sample, Task
from analogmed.data.datasets import (
    chestxray14,
    cinc2021,
    dsb2018,
    lgg,
    medmnist,
    mitbih,
    msd,
    nifti_layout,
)
from analogmed.data.datasets.chestxray14 import load_chestxray14
from analogmed.data.datasets.cinc2021 import load_cinc2021
from analogmed.data.datasets.dsb2018 import load_dsb2018
from analogmed.data.datasets.lgg import load_lgg
from analogmed.data.datasets.listing import Layout
from analogmed.data.datasets.medmnist import CLASSES as MEDMNIST
from analogmed.data.datasets.medmnist import load_medmnist
from analogmed.data.datasets.mitbih import load_mitbih
from analogmed.data.datasets.msd import load_msd
from analogmed.data.datasets.msd_tasks import MSD_TASKS, MsdTask
from analogmed.data.datasets.nifti_folder import load_brats, load_nifti
from analogmed.data.phantoms.ranges import CHEST_FINDINGS, ECG_CLASSES
from analogmed.data.signals.diagnoses import CPSC
from analogmed.data.signals.leads import TWELVE
from analogmed.data.splits import SHARES, SPLITS, check_duplicates, checked_shares
from analogmed.foundation.errors import ConfigError, DataError, MissingSettingError
from analogmed.foundation.files import require_folder
from analogmed.foundation.registry import (
    Registry,
    call_plugin,
    described,
    home_of,
    load_callable,
    refuse_unknown_options,
)

PLUGIN_GROUP = "analogmed.tasks"

_WINDOW_STEP = 16
_KEYWORDS = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class _Source:
    """Folder and loader of a task; both functions take options by keyword.

    Attributes:
        load: loader, called with the folder.
        locate: function from the user's root to the folder.
        name: name of the task, if it differs from that of the loader.
        fits_window: whether the window is derived from the first case.
        plugin: entry point of the loader, if a package provides it.
        is_format: whether it reads the user's own data, which may have a name of their own.
    """

    load: Callable[..., Task]
    locate: Callable[..., Path | None]
    name: str | None = None
    fits_window: bool = False
    plugin: EntryPoint | None = None
    is_format: bool = False

    def task(self, folder: Path | None, options: dict[str, Any]) -> Task:
        """Load the task from its folder."""
        if self.plugin is None:
            return self.load(folder, **options)
        what = described("task", self.plugin)
        task = call_plugin(
            self.load, [folder], options, what=what, expected=_EXPECTED, returns=Task
        )
        for part in SPLITS:
            cases = getattr(task, part)
            if not isinstance(cases, tuple) or not all(isinstance(case, Case) for case in cases):
                raise ConfigError(f"{what}: {part} is {cases!r:.100}; expected a tuple of Case")
        return replace(task, read=_PluginReader(task.read, what))


@dataclass(frozen=True)
class _PluginReader:
    """Reader of a plugin's cases, whose errors name the package and the case.

    Attributes:
        read: ``Task.read`` of the plugin.
        what: plugin and package, for messages.
    """

    read: Callable[[Case], Sample]
    what: str

    def __call__(self, case: Case) -> Sample:
        """Read a case."""
        what = f"{self.what}: read of case {case.case_id}"
        return call_plugin(self.read, [case], what=what, expected=_READ, returns=Sample)


def load_task(
    name: str,
    /,
    root: Path | str | None = None,
    *,
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
    size: Sequence[int] | None = None,
    spatial_dims: int | None = None,
    **options: Any,
) -> Task:
    """Load a data set by name.

    Names, in any case: ``lgg``, ``dsb2018``, ``brats``, ``nifti``, ``msd`` (any Decathlon task
    folder), ``medmnist`` (any MedMNIST file), ``chestxray14``, ``mitbih``, ``cinc2021``,
    ``cpsc2018``, the ten Decathlon tasks by folder or short name (``Task09_Spleen``, ``spleen``),
    the phantoms ``phantom_brain``, ``phantom_spleen``, ``phantom_nuclei``, ``phantom_chest`` and
    ``phantom_ecg``, and entry points of the group ``analogmed.tasks``: callables
    ``(root, **options) -> Task``.

    Args:
        name: name of the data set.
        root: folder of the data set. Phantoms are written there; by default to the user's cache
            folder (``ANALOGMED_CACHE``, else ``XDG_CACHE_HOME/analogmed``).
        split_seed: seed of the random split of patients.
        shares: shares of train, validation and test; they sum to 1.
        split_file: YAML or JSON file of patient ids that replaces the random split.
        size: spatial size to resample to.
        spatial_dims: number of spatial dimensions, if the data set supports several.
        **options: keyword arguments of the loader, such as ``labels`` of
            :func:`analogmed.data.datasets.msd.load_msd`. ``name`` is the name of own data
            (``nifti``, ``brats`` or ``msd``) in tables and checkpoints.

    Returns:
        The task, split by patient.

    Raises:
        ConfigError: the name or an option is unknown, the folder is not given or missing, or an
            installed package redefines a built-in task.
        DataError: the folder contains something else.
        LeakageError: the split file lists a patient in two splits, or two splits contain the same
            scan, byte for byte.

    Example:
        >>> load_task("splen", root="data")
        Traceback (most recent call last):
            ...
        analogmed.foundation.errors.ConfigError: unknown task 'splen'; did you mean 'spleen'?
    """
    name = spelled_task(name)
    source = _TASKS.get(name)
    settings: dict[str, Any] = {"split_seed": split_seed, "shares": shares}
    settings |= {"split_file": split_file, "size": size, "spatial_dims": spatial_dims}
    for_folder, for_loader = _dealt(name, source, settings, options)
    folder = source.locate(None if root is None else Path(root), **for_folder)
    task = source.task(folder, for_loader)
    check_duplicates(task.train, task.validation, task.test)
    if spatial_dims is not None and task.spatial_dims != spatial_dims:
        raise ConfigError(f"task {name!r} is {task.spatial_dims}D, not {spatial_dims}D")
    if source.fits_window and for_loader.get("window") is None and size is None:
        return _with_fitting_window(task)
    return task


def task_names() -> tuple[str, ...]:
    """Return all names that :func:`load_task` supports, sorted, including plugins.

    A Decathlon task is listed under its short name.
    """
    folders = {task.folder for task in MSD_TASKS}
    return tuple(name for name in _TASKS.names() if name not in folders)


def spelled_task(name: str) -> str:
    """Return the name of a data set that a text spells in any case, or the text if it is none."""
    return _TASKS.spelled(name)


def check_task_name(name: str) -> None:
    """Raise ConfigError if a name is unknown; no plugin is imported."""
    _TASKS.check(name)


def check_task(name: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise an error if a task does not have a setting or an option of :func:`load_task`.

    Raises:
        MissingSettingError: a required option is missing.
        ConfigError: a name is unknown.
    """
    name = spelled_task(name)
    _dealt(name, _TASKS.get(name), settings, options)


def cache_folder() -> Path:
    """Return the folder for phantoms: ``ANALOGMED_CACHE``, else in the user's cache folder."""
    own = os.environ.get("ANALOGMED_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "analogmed"


def _with_fitting_window(task: Task) -> Task:
    """Return the task with a window that fits its first case; phantoms vary in size."""
    case = (*task.train, *task.validation, *task.test)[0]
    shape = task.read(case).label.shape[1:]
    window = tuple(-(-length // _WINDOW_STEP) * _WINDOW_STEP for length in shape)
    return replace(task, window=window)


def _given(name: str, layout: Layout, root: Path | None) -> Path:
    """Return the folder, or file of an archive, that the user specified, which must exist."""
    if root is None:
        raise ConfigError(f"task {name!r} needs root, {layout.content}; {layout.origin}")
    if layout.is_archive and root.is_file():
        return root
    try:
        return require_folder(root)
    except DataError as error:
        raise ConfigError(
            f"{error}; task {name!r} needs {layout.content}; {layout.origin}"
        ) from error


def _decathlon_folder(task: MsdTask, root: Path | None) -> Path:
    content = f"the folder {task.folder} or the one that holds it"
    root = _given(task.short_name, replace(msd.LAYOUT, content=content), root)
    below = root / task.folder
    return below if below.is_dir() else root


def _phantom_folder(
    kind: str,
    root: Path | None,
    *,
    phantom_seed: int = 0,
    phantom_patients: int | None = None,
    phantom_size: int | None = None,
) -> Path:
    # not needed to read real data
    from analogmed.data.phantoms.write import write_phantom

    if root is None:
        variant = f"seed{phantom_seed}-n{phantom_patients or 'all'}-{phantom_size or 'full'}"
        root = cache_folder() / "phantoms" / variant
    return write_phantom(kind, root, phantom_seed, n_patients=phantom_patients, size=phantom_size)


def _as_given(root: Path | None) -> Path | None:
    return root


def _phantom(kind: str, load: Callable[..., Task], *, fits_window: bool = True) -> _Source:
    return _Source(load, partial(_phantom_folder, kind), f"phantom_{kind}", fits_window)


def _on_disk(name: str, load: Callable[..., Task], layout: Layout) -> _Source:
    return _Source(load, partial(_given, name, layout), is_format=layout.is_format)


_DATA_SETS: dict[str, tuple[Callable[..., Task], Layout]] = {
    "lgg": (load_lgg, lgg.LAYOUT),
    "chestxray14": (load_chestxray14, chestxray14.LAYOUT),
    "mitbih": (load_mitbih, mitbih.LAYOUT),
    "cinc2021": (load_cinc2021, cinc2021.LAYOUT),
    "cpsc2018": (partial(load_cinc2021, name="cpsc2018", classes=CPSC), cinc2021.LAYOUT),
    "dsb2018": (load_dsb2018, dsb2018.LAYOUT),
    "msd": (load_msd, msd.LAYOUT),
    "medmnist": (load_medmnist, medmnist.LAYOUT),
    "brats": (load_brats, nifti_layout.BRATS),
    "nifti": (load_nifti, nifti_layout.NIFTI),
}
LAYOUTS = tuple(dict.fromkeys(layout for _, layout in _DATA_SETS.values()))
"""Layouts of data sets on disk; the first that applies to a folder is that of its data."""

_SOURCES = {name: _on_disk(name, *one) for name, one in _DATA_SETS.items()} | {
    "phantom_brain": _phantom("brain", load_lgg),
    "phantom_spleen": _phantom("spleen", load_msd),
    "phantom_nuclei": _phantom("nuclei", load_dsb2018),
    "phantom_chest": _phantom(
        "chest", partial(load_chestxray14, findings=CHEST_FINDINGS), fits_window=False
    ),
    "phantom_ecg": _phantom(
        "ecg", partial(load_mitbih, classes=ECG_CLASSES, leads=TWELVE), fits_window=False
    ),
}


def _decathlon(task: MsdTask) -> _Source:
    return _Source(load_msd, partial(_decathlon_folder, task), task.short_name)


_EXPECTED = "a callable (root, **options) that returns an analogmed.data.Task"
_READ = "a callable (case) that returns an analogmed.data.Sample"


def _load_plugin(point: EntryPoint) -> _Source:
    load = load_callable(point, kind="task", expected=_EXPECTED)
    first = next(iter(_parameters(load)), None)
    if first is None or first.kind is first.KEYWORD_ONLY:
        raise ConfigError(f"{described('task', point)} takes no root; expected {_EXPECTED}")
    return _Source(load, _as_given, plugin=point)


_TASKS: Registry[_Source] = Registry(
    "task",
    _SOURCES
    | {name: _decathlon(task) for task in MSD_TASKS for name in (task.short_name, task.folder)},
    group=PLUGIN_GROUP,
    expected=_EXPECTED,
    load=_load_plugin,
    synonyms=dict.fromkeys(MEDMNIST, "medmnist") | {"mitdb": "mitbih"},
)


def _dealt(
    name: str, source: _Source, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return keyword arguments for folder and loader; raise for options that neither accepts."""
    settings = {key: value for key, value in settings.items() if value is not None}
    settings["shares"] = checked_shares(settings["shares"])
    locate_takes, load_takes = _keywords(source.locate), _keywords(source.load)
    if source.name is not None:
        settings["name"] = source.name
    takes_all = any(p.kind is p.VAR_KEYWORD for p in _parameters(source.load))
    known = locate_takes.keys() | load_takes.keys()
    if "name" in options:
        _check_own_name(name, source, options["name"])
    dispensable = {"split_seed": 0, "shares": SHARES}
    every = {**settings, **options}
    # A data set that cannot be 3D is detected by its spatial_dims after loading.
    quiet = {
        key
        for key, value in every.items()
        if key in settings and (key == "spatial_dims" or dispensable.get(key, ...) == value)
    }
    if not takes_all:
        given = [key for key in every if key not in known | quiet]
        if settings_given := [key for key in given if key not in options]:
            raise ConfigError(
                f"task.{settings_given[0]}: not a setting of task {name!r}; it has "
                f"{', '.join(sorted(known - {'name', 'root'}))}. Remove it."
            )
        refuse_unknown_options(f"task {name!r}", given, known - {"name"})
    missing = [key for key, p in load_takes.items() if p.default is p.empty and key not in every]
    if missing:
        example = f"; {_NIFTI_EXAMPLE}" if source.load is load_nifti else ""
        home = f" ({home_of(source.plugin)})" if source.plugin else ""
        what = f"task {name!r}{home}"
        raise MissingSettingError(f"{what} needs the options {', '.join(missing)}{example}")
    for_folder = {key: value for key, value in every.items() if key in locate_takes}
    for_loader = {
        key: value
        for key, value in every.items()
        if key in load_takes or (takes_all and key not in locate_takes)
    }
    return for_folder, for_loader


def _check_own_name(name: str, source: _Source, own: object) -> None:
    if not (source.is_format or source.plugin):
        formats = [each for each, one in _SOURCES.items() if one.is_format]
        raise ConfigError(
            f"task.options.name: the data set {name!r} has this name; expected no other one, got "
            f"{own!r}. Write task.name for another data set, or name own data "
            f"({', '.join(formats)})."
        )
    if not isinstance(own, str) or not own.strip():
        raise ConfigError(
            f"task.options.name: expected a name for the data, got {own!r}. Write it in quotes."
        )


_NIFTI_EXAMPLE = (
    "for instance --task.options \"{images: ['*_img.nii.gz'], label: '*_seg.nii.gz', "
    'classes: {tumour: [1]}, modality: MR}"'
)


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword parameters after the first parameter, the root."""
    return {p.name: p for p in _parameters(function)[1:] if p.kind in _KEYWORDS}


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())
