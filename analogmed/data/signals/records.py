"""WFDB records: headers, signals, annotations and checksums of ECG files.

A record is a header (``.hea``), one or more files of samples that it names, and often annotations
(``.atr``). Headers and samples come from anywhere, so sizes are compared with the files before
anything is read.

Source: https://wfdb.io; https://physionet.org/physiotools/wag
"""

import re
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from analogmed.data.readers.files import check_not_placeholder, file_size, is_hidden
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import read_head

HEADER, SAMPLES, ANNOTATIONS = ".hea", ".dat", ".atr"
RATES = (1, 100_000)
"""Least and largest number of samples per second."""
MOST_LEADS = 64
MOST_SAMPLES = 2**27
"""Largest number of samples of a record, all leads together."""
_MAX_HEADER_BYTES = 2**20
_MAX_ANNOTATION_BYTES = 2**25
_PLAIN = re.compile(r"[\w-][\w.-]*")
_BYTES = MappingProxyType(
    {"8": 1, "80": 1, "212": 1.5, "16": 2, "61": 2, "160": 2, "24": 3, "32": 4}
)
"""Bytes of a sample by the formats that are read."""
_STEPS_PER_MV = 1000
_MILLIVOLTS = MappingProxyType({"mv": 1.0, "uv": 1e-3, "v": 1e3})
_PANDAS_WARNING = r"The inplace keyword|.*inplace"
_FAILURES = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Record:
    """Checked header of a record.

    Attributes:
        header: header file.
        files: files of samples.
        leads: name of each signal, in the order of the header.
        units: unit of each signal.
        rate: samples per second.
        length: number of samples of each signal.
        checksums: 16-bit sum of the samples of each signal; ``None`` where the header has none.
        comments: lines of comments.
    """

    header: Path
    files: tuple[Path, ...]
    leads: tuple[str, ...]
    units: tuple[str, ...]
    rate: float
    length: int
    checksums: tuple[int | None, ...]
    comments: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the record."""
        return self.header.stem


class Annotations(NamedTuple):
    """Annotations of a record, in the order of time.

    Attributes:
        samples: number of the sample of each annotation, shape (n,).
        symbols: symbol of each annotation.
    """

    samples: np.ndarray
    symbols: tuple[str, ...]


def read_header(header: Path) -> Record:
    """Read the header of a record, and compare it with the sizes of its files.

    Raises:
        DataError: a file is missing or shorter than the header states, or the header is damaged,
            has several segments, or a rate below 1 or above 100,000 Hz.
    """
    if file_size(header) > _MAX_HEADER_BYTES:
        raise DataError(f"{header}: too long for a header; download it again")
    check_not_placeholder(read_head(header), header)
    state = header.stat()
    record, found = _parsed(header, state.st_mtime_ns, state.st_size)
    _check_sizes(record, found)
    return record


def read_leads(record: Record, leads: Sequence[str]) -> np.ndarray:
    """Read signals of a record in mV.

    Args:
        record: header of the record.
        leads: names of signals that the record has, in the wanted order.

    Returns:
        float64 array (leads, samples); samples that the file marks as invalid are NaN.

    Raises:
        DataError: a file cannot be read, or a unit is no voltage.
    """
    places = [record.leads.index(lead) for lead in leads]
    scales = [_scale(record, place) for place in places]
    with _reading(record.files[0], "cannot be read"):
        # All signals are read: wfdb skips a part of them by reading the whole file, too.
        found = _wfdb().rdrecord(str(record.header.with_suffix("")))
    signals: np.ndarray = found.p_signal.T[places] * np.array(scales)[:, None]
    return signals


def read_annotations(path: Path, record: Record) -> Annotations:
    """Read the annotations of a record.

    A file with a sampling rate of its own counts its samples at that rate; they are converted to
    that of the record.

    Args:
        path: file of annotations.
        record: header of the record.

    Raises:
        DataError: the file is empty, damaged, or has an annotation outside the record.
    """
    if file_size(path) > _MAX_ANNOTATION_BYTES:
        raise DataError(f"{path}: too long for annotations; download it again")
    check_not_placeholder(read_head(path), path)
    with _reading(path, "damaged annotations"):
        found = _wfdb().rdann(str(path.with_suffix("")), path.suffix[1:])
    samples = np.asarray(found.sample, dtype=np.int64)
    if len(samples) == 0:
        raise DataError(f"{path}: no annotation; expected one of each beat; download it again")
    scale = record.rate / (found.fs or record.rate)
    outside = np.floor(samples * scale).astype(np.int64)
    outside = outside[(outside < 0) | (outside >= record.length)]
    if len(outside):
        raise DataError(
            f"{path}: an annotation at sample {outside[0]} of record {record.name}, which has "
            f"{record.length} samples; download both files again"
        )
    # The last half sample of a record would be rounded to the sample after its end.
    samples = np.rint(samples * scale).astype(np.int64).clip(max=record.length - 1)
    return Annotations(samples, tuple(map(str, found.symbol)))


def check_signals(
    record: Record, used: Collection[str], warning: Callable[[Path, str, str], None]
) -> None:
    """Compare the samples of a record with the checksums of its header, and check their values.

    Args:
        record: header of the record.
        used: leads that the data set reads by default. In others, a unit that is no voltage, and
            invalid samples, are warnings.
        warning: function of a file, its observed state and the suggested action; called for a
            constant lead, too.

    Raises:
        DataError: a file cannot be read, a checksum differs, or samples of a used lead are invalid
            or no voltage.
    """
    with _reading(record.files[0], "cannot be read"):
        found = _wfdb().rdrecord(str(record.header.with_suffix("")), physical=False)
        sums = found.calc_checksum()
    for lead, stored, computed in zip(record.leads, record.checksums, sums, strict=True):
        if stored is not None and (computed - stored) % 2**16:
            raise DataError(
                f"{record.files[0]}: the samples of lead {lead} do not have the checksum of the "
                "header: a byte has changed; download it again"
            )
    readable = []
    for place, lead in enumerate(record.leads):
        if lead in used or record.units[place].lower() in _MILLIVOLTS:
            readable.append(lead)
        else:
            found_unit = f"lead {lead} has the unit {record.units[place]!r}, no voltage"
            warning(record.files[0], found_unit, "do not name it in task.options.leads")
    for lead, values in zip(readable, read_leads(record, readable), strict=True):
        if number := int(np.isnan(values).sum()):
            invalid = f"lead {lead} has {number} invalid samples (NaN)"
            if lead in used:
                raise DataError(
                    f"{record.files[0]}: {invalid}; set task.options.nan_policy to missing"
                )
            warning(record.files[0], invalid, "set task.options.nan_policy to missing to read it")
        elif values.min() == values.max():
            warning(record.files[0], f"lead {lead} is constant", "it counts as a missing lead")


def find_headers(folder: Path, origin: str, *, at_any_depth: bool = False) -> list[Path]:
    """Return the headers of a folder, sorted by their paths.

    Args:
        folder: folder of records.
        origin: source of the data, for the message.
        at_any_depth: whether records may also be in folders below it.

    Raises:
        DataError: there is none, or two records have one name.
    """
    found = folder.glob(f"{'**/' if at_any_depth else ''}*{HEADER}")
    headers = sorted(path for path in found if not is_hidden(path, folder))
    if not headers:
        raise DataError(f"{folder}: no record, expected *{HEADER}; download {origin}")
    first_of: dict[str, Path] = {}
    for header in headers:
        first = first_of.setdefault(header.stem, header)
        if first != header:
            raise DataError(
                f"{header}: a second record of the name {header.stem}, as {first}; expected one of "
                "each name; remove or rename one"
            )
    return headers


def write_record(
    header: Path,
    signals: np.ndarray,
    leads: Sequence[str],
    rate: int,
    annotations: Annotations,
    comments: Sequence[str] = (),
) -> None:
    """Write a record with 16-bit samples of 1 µV, and its annotations.

    Args:
        header: path of the header; the other files are next to it.
        signals: float64 array (leads, samples) in mV.
        leads: name of each lead.
        rate: samples per second.
        annotations: annotations of the record.
        comments: lines of comments of the header.
    """
    steps = np.rint(signals * _STEPS_PER_MV).clip(-(2**15) + 1, 2**15 - 1).astype("<i2")
    file = header.with_suffix(SAMPLES)
    file.write_bytes(steps.T.tobytes())
    lines = [f"{header.stem} {len(leads)} {rate} {signals.shape[1]}"]
    for lead, values in zip(leads, steps.astype(np.int64), strict=True):
        checksum = int(values.sum()) % 2**16
        lines.append(f"{file.name} 16 {_STEPS_PER_MV}(0)/mV 16 0 {values[0]} {checksum} 0 {lead}")
    lines += [f"# {comment}" for comment in comments]
    header.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with _without_pandas_warning():
        _wfdb().wrann(
            header.stem,
            ANNOTATIONS[1:],
            annotations.samples,
            list(annotations.symbols),
            write_dir=str(header.parent),
        )


@cache
def _wfdb() -> Any:
    """Return the package, which is imported where records are read or written."""
    with _without_pandas_warning():
        import wfdb
    return wfdb


@lru_cache(maxsize=256)
def _parsed(header: Path, _time: int, _size: int) -> tuple[Record, Any]:
    """Return the content of a header, and as wfdb parses it; the last headers stay in memory."""
    with _reading(header, "damaged header"):
        found = _wfdb().rdheader(str(header.with_suffix("")))
        if getattr(found, "n_seg", None):
            raise DataError(f"{header}: expected one segment, got {found.n_seg}; join them")
        if not found.n_sig or not found.sig_len:
            raise DataError(f"{header}: no signals or samples; expected an ECG; download it again")
        names = dict.fromkeys(found.file_name)
        record = Record(
            header=header,
            files=tuple(header.parent / _plain(name, header) for name in names),
            leads=tuple(name or f"signal {n}" for n, name in enumerate(found.sig_name, start=1)),
            units=tuple(unit or "mV" for unit in found.units),
            rate=float(found.fs),
            length=int(found.sig_len),
            checksums=tuple(found.checksum),
            comments=tuple(found.comments),
        )
    return record, found


@contextmanager
def _without_pandas_warning() -> Iterator[None]:
    """Ignore the warning of pandas 3 that wfdb 4.3 causes by an old keyword."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_PANDAS_WARNING)
        yield


@contextmanager
def _reading(path: Path, problem: str) -> Iterator[None]:
    """Replace every error of a reader by one that names the file."""
    try:
        with _without_pandas_warning():
            yield
    except _FAILURES as error:
        raise DataError(f"{path}: {problem} ({error}); download it again") from error


def _plain(name: str, header: Path) -> str:
    """Return the name of a file next to the header, which a damaged or foreign one may not be."""
    if not _PLAIN.fullmatch(name):
        raise DataError(f"{header}: expected the name of a file next to it, got {name!r}")
    return name


def _check_sizes(record: Record, found: Any) -> None:
    slowest, fastest = RATES
    if not slowest <= record.rate <= fastest:
        raise DataError(
            f"{record.header}: expected a sampling rate from {slowest} to {fastest:,} Hz, got "
            f"{record.rate:.10g}; correct the header"
        )
    if len(record.leads) > MOST_LEADS or len(record.leads) * record.length > MOST_SAMPLES:
        raise DataError(
            f"{record.header}: {len(record.leads)} signals of {record.length} samples; expected at "
            f"most {MOST_LEADS} signals and {MOST_SAMPLES} samples in all; cut the record"
        )
    if len(set(record.leads)) < len(record.leads):
        raise DataError(
            f"{record.header}: expected different names of signals, got {', '.join(record.leads)}"
        )
    if set(found.samps_per_frame) != {1}:
        raise DataError(
            f"{record.header}: expected one sampling rate of all signals; resample them"
        )
    for path in record.files:
        places = [n for n, name in enumerate(found.file_name) if name == path.name]
        _check_length(path, record, [found.fmt[n] for n in places], found.byte_offset[places[0]])


def _check_length(path: Path, record: Record, formats: Sequence[str], offset: int | None) -> None:
    """Raise DataError if a file has fewer samples than the header states."""
    unknown = sorted(set(formats) - _BYTES.keys())
    if unknown:
        raise DataError(
            f"{record.header}: samples in format {', '.join(unknown)}; expected one of "
            f"{', '.join(_BYTES)}; convert the record"
        )
    size = file_size(path) - (offset or 0)
    check_not_placeholder(read_head(path), path)
    stored = max(0, int(size / sum(_BYTES[each] for each in formats)))
    if stored < record.length:
        raise DataError(
            f"{path}: {stored} samples of each signal; expected the {record.length} of its header; "
            "download it again"
        )


def _scale(record: Record, place: int) -> float:
    """Return the number of mV in a unit of a signal."""
    unit = record.units[place]
    if unit.lower() not in _MILLIVOLTS:
        raise DataError(
            f"{record.header}: lead {record.leads[place]} has the unit {unit!r}; expected mV, uV "
            "or V; convert the record"
        )
    return _MILLIVOLTS[unit.lower()]
