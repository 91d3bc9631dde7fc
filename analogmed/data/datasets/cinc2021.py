"""ECGs of 12 leads with diagnoses: PhysioNet/CinC Challenge 2021, and CPSC 2018.

Source: Reyna et al. 2021, doi:10.23919/CinC53138.2021.9662687,
https://physionet.org/content/challenge-2021; Liu et al. 2018, doi:10.1166/jmihi.2018.2442
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from analogmed.data.case import Case, Sample, Task
from analogmed.data.datasets.listing import Fault, Layout, Listing, refuse, report_error
from analogmed.data.datasets.options import known_texts, some_texts
from analogmed.data.samples import naming_case
from analogmed.data.signals.diagnoses import CODES, SCORED, diagnoses
from analogmed.data.signals.leads import TWELVE, LeadReader, NanPolicy, checked_window
from analogmed.data.signals.records import HEADER, check_signals, find_headers, read_header
from analogmed.data.splits import (
    SHARES,
    Cases,
    SplitSettings,
    checked_shares,
    find_duplicates,
    split_cases,
)
from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.files import require_folder
from analogmed.kinds.classification import MULTILABEL

_SIGNALS = ".mat"
_FOLDERS = ("", "g[0-9]*/", "training/*/g[0-9]*/")
"""Folders of records below that of the data: all in one, of one source, and of the challenge."""
_ORIGIN = "https://physionet.org/content/challenge-2021"


def load_cinc2021(
    root: Path | str,
    *,
    name: str = "cinc2021",
    classes: Sequence[str] = SCORED,
    leads: Sequence[str] = TWELVE,
    missing_leads: Sequence[str] = (),
    rate: int = 100,
    window_s: float = 10.0,
    noise: Mapping[str, float] = MappingProxyType({}),
    noise_seed: int = 0,
    mains_hz: int = 50,
    nan_policy: NanPolicy = "error",
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
) -> Task:
    """Load ECGs of 12 leads in the layout of the challenge of 2021; each record is a patient.

    Diagnoses are labels that are independent of each other. The input is the start of a record,
    with 0 after its end. Files do not identify patients, so that each record counts as one; records
    with the same bytes are of one patient.

    Args:
        root: folder with ``.hea`` and ``.mat`` of each record.
        name: name of the task.
        classes: diagnoses that are classes, some of
            :data:`analogmed.data.signals.diagnoses.CODES`; by default the 26 that the challenge
            scores.
        leads: names of the leads, which are the channels.
        missing_leads: those of the leads that are set to 0.
        rate: samples per second to which records are resampled, 50 to 1000.
        window_s: length of the input in seconds.
        noise: signal-to-noise ratio in dB by kind: ``baseline``, ``muscle``, ``mains``.
        noise_seed: seed of the noise.
        mains_hz: frequency of mains, 50 or 60.
        nan_policy: ``error``, or ``missing`` to set a lead with invalid samples to 0.
        split_seed, shares, split_file: see :class:`analogmed.data.splits.SplitSettings`.

    Raises:
        ConfigError: an option is invalid.
        DataError: there is no record, or a file is missing.
    """
    reader = RecordReader(
        leads=LeadReader(
            leads=some_texts("task.options.leads", leads),
            rate=rate,
            missing_leads=some_texts("task.options.missing_leads", missing_leads),
            nan_policy=nan_policy,
            noise=noise,
            noise_seed=noise_seed,
            mains_hz=mains_hz,
        ),
        classes=_checked_classes(classes),
        seconds=checked_window(window_s),
    )
    settings = SplitSettings(split_seed, checked_shares(shares), split_file)
    root = require_folder(root)
    cases = _with_patients(list_records(root, refuse))
    train, validation, test = split_cases(cases, settings)
    return Task(
        name=name,
        root=root,
        spatial_dims=1,
        channels=reader.leads.leads,
        classes=reader.classes,
        window=(reader.leads.samples_in(reader.seconds),),
        spacing_unit="px",
        train=train,
        validation=validation,
        test=test,
        read=reader,
        kind=MULTILABEL,
        rate=reader.leads.rate,
    )


@dataclass(frozen=True)
class RecordReader:
    """Reader of the start of a record.

    Attributes:
        leads: reader of the leads.
        classes: diagnoses that are classes.
        seconds: length of the input.
    """

    leads: LeadReader
    classes: tuple[str, ...] = SCORED
    seconds: float = 10.0

    def __call__(self, case: Case) -> Sample:
        """Return the input (1, leads, samples) and its labels (1, classes).

        Raises:
            DataError: a file is missing or damaged, or a diagnosis is unknown.
        """
        (header,) = case.labels
        with naming_case(case):
            record = read_header(header)
            found = diagnoses(record.comments, str(header))
            signals = self.leads(record)
        size = self.leads.samples_in(self.seconds)
        start = signals[:, :size]
        image = np.pad(start, [(0, 0), (0, size - start.shape[1])])
        label = np.array([[name in found for name in self.classes]], dtype=np.uint8)
        return Sample(image[None], label, (1.0 / self.leads.rate,), case)


def list_records(folder: Path, fault: Fault) -> tuple[Case, ...]:
    """Return a case of each record of a folder; a missing file is a fault.

    Headers are not read: there are up to 88,253.

    Raises:
        DataError: there is no record.
    """
    cases = []
    for header in find_headers(folder, _ORIGIN, at_any_depth=True):
        signals = header.with_suffix(_SIGNALS)
        if signals.is_file():
            cases.append(Case(header.stem, header.stem, (signals,), (header,)))
        else:
            other = header.with_suffix(".atr").is_file()
            hint = ", or set task.name to mitbih, which reads .dat and .atr" if other else ""
            fault(signals, "missing file, expected one for each header", f"download it again{hint}")
    return tuple(cases)


def _with_patients(cases: Cases) -> Cases:
    """Return cases in which equal records are of one patient: some are in the data twice."""
    patient_of = {
        case: first.case_id for first, *others in find_duplicates(cases) for case in others
    }
    return tuple(replace(case, patient_id=patient_of.get(case, case.patient_id)) for case in cases)


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    chosen = known_texts("task.options.classes", classes, CODES, "diagnosis")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"task.options.classes: expected one or more different diagnoses, got {list(chosen)}"
        )
    return chosen


def _check_record(case: Case, _: Fault, warning: Fault) -> None:
    """Check all files of a record; see :attr:`Listing.check`."""
    (header,) = case.labels
    record = read_header(header)
    check_signals(record, TWELVE, warning)
    diagnoses(record.comments, str(header))


def _list(folder: Path, problem: Fault, _: Fault) -> Listing:
    """List the records of a folder."""
    cases: tuple[Case, ...] = ()
    try:
        cases = list_records(folder, problem)
    except AnalogmedError as error:
        report_error(problem, folder, error, "download it again")
    return Listing(cases, has_masks=False, check=_check_record)


LAYOUT = Layout(
    name="12-lead ECG",
    files=f"*{HEADER} with *{_SIGNALS} (CinC 2021, CPSC 2018)",
    content=f"the folder that holds the records (*{HEADER}, *{_SIGNALS})",
    origin=f"the data come from {_ORIGIN}",
    applies=lambda folder: any(
        any(folder.glob(f"{below}*{HEADER}")) and any(folder.glob(f"{below}*{_SIGNALS}"))
        for below in _FOLDERS
    ),
    list=_list,
    folders=("cinc2021", "cpsc2018"),
)
