"""MIT-BIH arrhythmia database: heartbeats with classes, and other records in its layout.

Source: Moody and Mark 2001, doi:10.1109/51.932724; https://physionet.org/content/mitdb. Classes
(ANSI/AAMI EC57) and division of the records: de Chazal et al. 2004, doi:10.1109/TBME.2004.827359
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from analogmed.data.case import Case, Task
from analogmed.data.datasets.listing import Fault, Layout, Listing, refuse, report_error
from analogmed.data.datasets.options import known_texts, some_texts
from analogmed.data.signals.beats import SYMBOLS, BeatReader, SegmentReader, beats
from analogmed.data.signals.leads import LeadReader, NanPolicy, checked_window
from analogmed.data.signals.records import (
    ANNOTATIONS,
    HEADER,
    Record,
    check_signals,
    find_headers,
    read_annotations,
    read_header,
)
from analogmed.data.splits import (
    SHARES,
    Cases,
    SplitSettings,
    check_leakage,
    checked_shares,
    split_by_patient,
    split_cases,
)
from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError
from analogmed.foundation.files import require_folder
from analogmed.kinds.classification import MULTICLASS
from analogmed.kinds.sequence import SEQUENCE

DS1 = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122", "124", "201",
    "203", "205", "207", "208", "209", "215", "220", "223", "230",
)  # fmt: skip
"""Records for training and validation."""
DS2 = (
    "100", "103", "105", "111", "113", "117", "121", "123", "200", "202", "210", "212", "213",
    "214", "219", "221", "222", "228", "231", "232", "233", "234",
)  # fmt: skip
"""Records for test."""
VALIDATION = ("108", "114", "207")
PACED = ("102", "104", "107", "217")
EXCLUDED = (*PACED, "201")
"""Records that are left out by default: paced ones, and one of the patient of record 202."""
_ONE_PATIENT = ("201", "202")
_LEADS = ("MLII",)
_CLASSES = ("N", "S", "V")
_ORIGIN = "https://physionet.org/content/mitdb"


def load_mitbih(
    root: Path | str,
    *,
    name: str = "mitbih",
    classes: Sequence[str] = _CLASSES,
    apart: Sequence[str] = (),
    leads: Sequence[str] = _LEADS,
    missing_leads: Sequence[str] = (),
    rate: int = 100,
    window_s: float = 2.56,
    segment_s: float = 0.0,
    delay_s: float = 0.5,
    noise: Mapping[str, float] = MappingProxyType({}),
    noise_seed: int = 0,
    mains_hz: int = 50,
    nan_policy: NanPolicy = "error",
    exclude: Sequence[str] = EXCLUDED,
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
) -> Task:
    """Load heartbeats of the MIT-BIH arrhythmia database; a case is a record with all its beats.

    Each beat is a window around its annotated R peak, or a place in a segment of the record, and
    has one of the classes of ANSI/AAMI EC57. Records of MIT-BIH are divided as in the literature:
    DS2 is for test; of DS1, records 108, 114 and 207 are for validation. Records of other names are
    split by their names.

    Args:
        root: folder with ``.hea``, ``.dat`` and ``.atr`` of each record.
        name: name of the task.
        classes: classes to distinguish, some of N (normal), S (supraventricular ectopic), V
            (ventricular ectopic), F (fusion) and Q (paced or unclassifiable). Beats of other
            classes are left out.
        apart: those of the classes that are predicted and scored, but are in no mean over classes,
            such as F and Q, which few patients have.
        leads: names of the leads, which are the channels.
        missing_leads: those of the leads that are set to 0.
        rate: samples per second to which records are resampled, 50 to 1000.
        window_s: length of a window in seconds.
        segment_s: length in seconds of the segments in which networks read a record, with a class
            for each beat (sequence labelling), from twice ``window_s`` to 60; 0 for a window around
            each beat. Segments have half a window or more on both sides of their beats.
        delay_s: seconds after the R peak at which the class of a beat is read in a segment, at most
            half of ``window_s``. A recurrent network knows only the signal before.
        noise: signal-to-noise ratio in dB by kind: ``baseline``, ``muscle``, ``mains``.
        noise_seed: seed of the noise.
        mains_hz: frequency of mains, 50 or 60.
        nan_policy: ``error``, or ``missing`` to set a lead with invalid samples to 0.
        exclude: records to leave out: by default the paced ones, and 201, which is of the same
            patient as 202.
        split_seed, shares, split_file: see :class:`analogmed.data.splits.SplitSettings`. For
            records of MIT-BIH, ``shares`` has no effect, and ``split_seed`` only if DS1 has none of
            the records for validation, or nothing else: a fifth of it is then drawn.

    Raises:
        ConfigError: an option is invalid.
        DataError: a file is missing or damaged, or a record is in no part of the division.
        LeakageError: a patient is in two splits.
    """
    reader = BeatReader(
        classes=_checked_classes(classes),
        leads=LeadReader(
            leads=some_texts("task.options.leads", leads),
            rate=rate,
            missing_leads=some_texts("task.options.missing_leads", missing_leads),
            nan_policy=nan_policy,
            noise=noise,
            noise_seed=noise_seed,
            mains_hz=mains_hz,
        ),
        seconds=checked_window(window_s),
    )
    read = SegmentReader(reader, segment_s, delay_s) if segment_s else reader
    settings = SplitSettings(split_seed, checked_shares(shares), split_file)
    root = require_folder(root)
    cases = list_records(root, refuse, _checked_exclusions(root, exclude))
    train, validation, test = divide(root, cases, settings)
    return Task(
        name=name,
        root=root,
        spatial_dims=1,
        channels=reader.leads.leads,
        classes=reader.classes,
        window=read.window,
        spacing_unit="px",
        train=train,
        validation=validation,
        test=test,
        read=read,
        kind=SEQUENCE if segment_s else MULTICLASS,
        apart=_checked_apart(apart, reader.classes),
        strip=read.strip,
        rate=reader.leads.rate,
    )


def list_records(folder: Path, fault: Fault, exclude: Collection[str] = ()) -> tuple[Case, ...]:
    """Return a case of each record of a folder; faults are records that cannot be read.

    Args:
        folder: folder of the records.
        fault: function of a fault.
        exclude: names of records to leave out.

    Raises:
        DataError: there is no record.
    """
    cases = []
    headers = (path for path in find_headers(folder, _ORIGIN) if path.stem not in exclude)
    for header in headers:
        annotations = header.with_suffix(ANNOTATIONS)
        try:
            record = read_header(header)
            if not annotations.is_file():
                other = header.with_suffix(".mat").is_file()
                hint = (
                    ", or set task.name to cinc2021 or cpsc2018, which read .mat" if other else ""
                )
                raise DataError(f"{annotations}: missing file; download it{hint}")
            cases.append(Case(record.name, patient_of(record), record.files, (header, annotations)))
        except DataError as error:
            report_error(fault, header, error, "download it again")
    return tuple(cases)


def patient_of(record: Record) -> str:
    """Return the patient of a record: that of 201 and 202 is one."""
    return " and ".join(_ONE_PATIENT) if record.name in _ONE_PATIENT else record.name


def divide(folder: Path, cases: Cases, settings: SplitSettings) -> tuple[Cases, Cases, Cases]:
    """Divide records of MIT-BIH by the lists of the literature, and others by the settings.

    Raises:
        ConfigError: the split file is invalid.
        DataError: some records are of MIT-BIH, and others are not.
        LeakageError: a patient is in two splits.
    """
    others = [case.case_id for case in cases if case.case_id not in (*DS1, *DS2)]
    if settings.file is not None or len(others) == len(cases):
        return split_cases(cases, settings)
    if others:
        raise DataError(
            f"{folder}: records {', '.join(others)} are in neither part of the division of "
            "MIT-BIH (DS1, DS2); name them in task.options.exclude, or write task.split_file"
        )
    first, test = (_named(cases, names) for names in (DS1, DS2))
    validation = _named(first, VALIDATION)
    if validation and len(validation) < len(first):
        train = tuple(case for case in first if case not in validation)
    else:
        train, validation, _ = split_by_patient(first, (0.8, 0.2, 0.0), settings.seed)
    check_leakage(train, validation, test)
    return train, validation, test


def _named(cases: Cases, names: Collection[str]) -> Cases:
    return tuple(case for case in cases if case.case_id in names)


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    chosen = known_texts("task.options.classes", classes, SYMBOLS, "class")
    if len(set(chosen)) < max(2, len(chosen)):
        raise ConfigError(
            f"task.options.classes: expected two or more different classes, got {', '.join(chosen)}"
        )
    return chosen


def _checked_apart(apart: Sequence[str], classes: tuple[str, ...]) -> tuple[str, ...]:
    names = known_texts("task.options.apart", apart, classes, "class")
    if not {*names} < {*classes}:
        raise ConfigError(
            f"task.options.apart: expected some of the classes {', '.join(classes)}, but not all "
            f"of them, got {', '.join(names)}"
        )
    return names


def _checked_exclusions(folder: Path, exclude: Sequence[str]) -> tuple[str, ...]:
    given = [exclude] if isinstance(exclude, str | int) else exclude
    texts = [str(name) if isinstance(name, int) else name for name in given]  # names are numbers
    names = some_texts("task.options.exclude", texts)
    unknown = [n for n in names if n not in EXCLUDED and not (folder / f"{n}{HEADER}").is_file()]
    if unknown:
        raise ConfigError(
            f"task.options.exclude: expected names of records in {folder}, got {', '.join(unknown)}"
        )
    return names


def _check_record(case: Case, problem: Fault, warning: Fault) -> None:
    """Check all files of a record; see :attr:`Listing.check`."""
    header, annotations = case.labels
    record = read_header(header)
    check_signals(record, _LEADS, warning)
    beats(read_annotations(annotations, record), annotations)


def _list(folder: Path, problem: Fault, _: Fault) -> Listing:
    """List the records of a folder; their division is checked, too."""
    cases: Cases = ()
    try:
        cases = list_records(folder, problem)
        divide(folder, tuple(c for c in cases if c.case_id not in EXCLUDED), SplitSettings())
    except AnalogmedError as error:
        report_error(problem, folder, error, "download it again")
    return Listing(cases, has_masks=False, check=_check_record)


LAYOUT = Layout(
    name="MIT-BIH",
    files=f"*{HEADER} with *{ANNOTATIONS} (MIT-BIH)",
    content=f"the folder that holds the records (*{HEADER}, *.dat, *{ANNOTATIONS})",
    origin=f"the data come from {_ORIGIN}",
    applies=lambda folder: any(folder.glob(f"*{HEADER}")) and any(folder.glob(f"*{ANNOTATIONS}")),
    list=_list,
    folders=("mitdb",),
)
