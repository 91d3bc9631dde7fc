"""Heartbeats of annotated records: as windows around them, or at their places in segments."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from analogmed.data.case import Case, Sample, Strip
from analogmed.data.samples import naming_case
from analogmed.data.signals.leads import LeadReader
from analogmed.data.signals.records import Annotations, read_annotations, read_header
from analogmed.foundation.errors import DataError
from analogmed.foundation.settings.checks import require_number
from analogmed.kinds.sequence import NO_CLASS

SYMBOLS = MappingProxyType({"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"})
"""Symbols of the beats of each class: normal, supraventricular, ventricular, fusion, other."""
NO_BEATS = frozenset('+~|x![]"=ptu()^sT*D@')
"""Symbols that mark something else than a beat, such as a change of rhythm."""
FLUTTER_START, FLUTTER_END = "[", "]"
_LONGEST = 60.0
"""Largest length of a segment in seconds."""


@dataclass(frozen=True)
class BeatReader:
    """Reader of the beats of a record.

    Attributes:
        classes: names of the classes; beats of others are left out.
        leads: reader of the leads.
        seconds: length of a window.
    """

    leads: LeadReader
    classes: tuple[str, ...]
    seconds: float

    @property
    def window(self) -> tuple[int]:
        """Number of samples of a window."""
        return (self.leads.samples_in(self.seconds),)

    def __call__(self, case: Case) -> Sample:
        """Return windows (beats, leads, samples), and their class indices (beats, 1).

        The R peak is in the middle of a window. Beyond the ends of a record, windows are 0.

        Raises:
            DataError: a file is missing or damaged, or there is no beat of the classes.
        """
        strip, classes = self.read(case)
        label = [[self.classes.index(each)] for each in classes]
        images = _windows(strip.signal, strip.places, self.window[0])
        return Sample(images, np.array(label, dtype=np.uint8), (1.0 / strip.rate,), case)

    def strip(self, case: Case) -> Strip:
        """Return the signal of a record, and the R peaks of its windows.

        Raises:
            DataError: a file is missing or damaged, or there is no beat of the classes.
        """
        return self.read(case)[0]

    def read(self, case: Case) -> tuple[Strip, np.ndarray]:
        """Return signal and R peaks, and the class of each beat, shape (beats,).

        Raises:
            DataError: a file is missing or damaged, or there is no beat of the classes.
        """
        with naming_case(case):
            header, annotations = case.labels
            record = read_header(header)
            samples, classes = beats(read_annotations(annotations, record), annotations)
            chosen = np.isin(classes, self.classes)
            if not chosen.any():
                raise DataError(
                    f"{annotations}: no beat of the classes {', '.join(self.classes)}; expected "
                    "one or more; name the record in task.options.exclude"
                )
            signals = self.leads(record)
        places = self.leads.place_of(samples[chosen], record)
        return Strip(signals, self.leads.rate, places), classes[chosen]


@dataclass(frozen=True)
class SegmentReader:
    """Reader of a record in segments, with a class at the place of each beat.

    A beat belongs to one segment. Segments overlap, so that each has half a window of signal or
    more on both sides of its beats.

    Attributes:
        beats: reader of the beats, with the window around them.
        seconds: length of a segment.
        delay: seconds after the R peak at which the class of a beat is marked.

    Raises:
        ConfigError: the length or the delay is out of its range.
    """

    beats: BeatReader
    seconds: float
    delay: float

    def __post_init__(self) -> None:
        window = self.beats.seconds
        low, high = 2 * window, _LONGEST
        require_number("task.options.segment_s", self.seconds, at_least=low, at_most=high)
        require_number("task.options.delay_s", self.delay, at_least=0, at_most=window / 2)

    @property
    def window(self) -> tuple[int]:
        """Number of samples of a segment."""
        return (self.beats.leads.samples_in(self.seconds),)

    def __call__(self, case: Case) -> Sample:
        """Return segments (N, leads, samples), and the class indices of beats (N, samples).

        Other samples have ``NO_CLASS``. Segments without a beat are left out. Beyond the ends of a
        record, segments are 0. Of beats at one sample, the first counts.

        Raises:
            DataError: a file is missing or damaged, or there is no beat of the classes.
        """
        strip, classes = self._read(case)
        (size,), (context,) = self.window, self.beats.window
        core = size - context
        numbers, segment = np.unique(strip.places // core, return_inverse=True)
        padded = np.pad(strip.signal, [(0, 0), (context // 2, size)])
        segments = padded[:, (numbers * core)[:, None] + np.arange(size)].transpose(1, 0, 2)
        label = np.full((len(numbers), size), NO_CLASS, dtype=np.uint8)
        delay = min(context // 2, round(self.delay * strip.rate))
        marked = strip.places % core + context // 2 + delay
        label[segment, marked] = [self.beats.classes.index(each) for each in classes]
        return Sample(segments.copy(), label, (1.0 / strip.rate,), case)

    def strip(self, case: Case) -> Strip:
        """Return the signal of a record, and the R peaks of its beats.

        Raises:
            DataError: a file is missing or damaged, or there is no beat of the classes.
        """
        return self._read(case)[0]

    def _read(self, case: Case) -> tuple[Strip, np.ndarray]:
        strip, classes = self.beats.read(case)
        places, first = np.unique(strip.places, return_index=True)
        return Strip(strip.signal, strip.rate, places), classes[first]


def beats(annotations: Annotations, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return sample and class of each beat outside of ventricular flutter, shapes (beats,).

    Args:
        annotations: annotations of a record.
        path: their file, for errors.

    Raises:
        DataError: a symbol is none of the database.
    """
    class_of = {symbol: name for name, symbols in SYMBOLS.items() for symbol in symbols}
    unknown = sorted(set(annotations.symbols) - class_of.keys() - NO_BEATS)
    if unknown:
        raise DataError(
            f"{path}: unknown symbol {', '.join(map(repr, unknown))}; expected those of MIT-BIH "
            f"({''.join(class_of)} for beats); correct the file"
        )
    symbols = np.array(annotations.symbols)
    balance = np.cumsum((symbols == FLUTTER_START).astype(int) - (symbols == FLUTTER_END))
    # An end without a start, as of a part of a record, does not count.
    flutter = balance - np.minimum.accumulate(np.minimum(balance, 0))
    kept = np.array([symbol in class_of for symbol in symbols]) & (flutter == 0)
    return annotations.samples[kept], np.array([class_of[symbol] for symbol in symbols[kept]])


def _windows(signals: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    """Return windows (beats, leads, size) of leads (leads, samples), 0 beyond their ends."""
    padded = np.pad(signals, [(0, 0), (size // 2, size)])
    return padded[:, centres[:, None] + np.arange(size)].transpose(1, 0, 2).copy()
