"""Leads of a record for a network: chosen by name, resampled to one rate, and normalised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from analogmed.data.normalise import z_score
from analogmed.data.signals.noise import add_noise, checked_noise
from analogmed.data.signals.records import Record, read_leads
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.checks import require_choice, require_number, require_whole
from analogmed.foundation.settings.forms import checks_arguments

NanPolicy = Literal["error", "missing"]
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Leads of a standard ECG."""
_RATES = (50, 1000)
_SECONDS = (0.3, 60.0)
_MAINS_HZ = (50, 60)
_MAINS_RATE = 4
"""Suggested samples per period of mains, at which resampling does not weaken it."""
_LARGEST_SEED = 2**63 - 1
_LEAST_NOISY_HZ = 121
"""Lowest rate at which noise of mains can be added."""
_LARGEST_FACTOR = 100_000
"""Limit of the factors of a rate, by which the filter of the resampling has 20 times more taps."""


@checks_arguments
@dataclass(frozen=True)
class LeadReader:
    """Reader of the leads of a record.

    Noise is added at the rate of the file. Then leads are resampled with an anti-aliasing filter,
    and each is normalised to mean 0 and standard deviation 1 over the record. A missing or constant
    lead is 0.

    Attributes:
        leads: names of the leads, in the order of the channels.
        rate: samples per second of the result, 50 to 1000.
        missing_leads: those of the leads that are 0, whether or not a record has them.
        nan_policy: ``"error"``, or ``"missing"`` for a lead with invalid samples.
        noise: signal-to-noise ratio in dB by kind, see
            :func:`analogmed.data.signals.noise.add_noise`.
        noise_seed: seed of the noise; each record, lead and kind has its own noise, which does not
            depend on the others.
        mains_hz: frequency of mains, 50 or 60.

    Raises:
        ConfigError: an attribute is invalid.
    """

    leads: tuple[str, ...]
    rate: int = 100
    missing_leads: tuple[str, ...] = ()
    nan_policy: NanPolicy = "error"
    noise: Mapping[str, float] = field(default_factory=dict)
    noise_seed: int = 0
    mains_hz: int = 50

    def __post_init__(self) -> None:
        leads, missing = self.leads, self.missing_leads
        if not leads or len(set(leads)) < len(leads):
            raise ConfigError(
                f"task.options.leads: expected one or more different leads, got {list(leads)}"
            )
        if not {*missing} < {*leads}:
            raise ConfigError(
                f"task.options.missing_leads: expected some of the leads {', '.join(leads)}, but "
                f"not all of them, got {', '.join(missing)}"
            )
        low, high = _RATES
        require_whole("task.options.rate", self.rate, least=low, most=high)
        require_whole("task.options.noise_seed", self.noise_seed, least=0, most=_LARGEST_SEED)
        if type(self.mains_hz) is not int or self.mains_hz not in _MAINS_HZ:
            expected = " or ".join(map(str, _MAINS_HZ))
            raise ConfigError(f"task.options.mains_hz: expected {expected}, got {self.mains_hz!r}")
        require_choice("task.options.nan_policy", self.nan_policy, get_args(NanPolicy))
        object.__setattr__(self, "noise", checked_noise(self.noise))
        if "mains" in self.noise and 2 * self.mains_hz >= self.rate:
            raise ConfigError(
                f"task.options.rate: expected more than {2 * self.mains_hz} for noise of mains of "
                f"{self.mains_hz} Hz, got {self.rate}; set task.options.rate to "
                f"{_MAINS_RATE * self.mains_hz}, or remove mains from task.options.noise"
            )

    def __call__(self, record: Record) -> np.ndarray:
        """Return leads, float32, shape (leads, samples at the rate of the reader).

        Raises:
            DataError: a lead is missing or has invalid samples, or a file cannot be read.
        """
        present = [lead for lead in self.leads if lead not in self.missing_leads]
        self._check_present(present, record)
        signals = np.zeros((len(self.leads), record.length))
        if present:
            signals[[self.leads.index(lead) for lead in present]] = read_leads(record, present)
        self._remove_invalid(signals, record)
        # Filters leave rounding errors of a constant lead, which z_score would enlarge.
        constant = signals.min(axis=1) == signals.max(axis=1)
        if self.noise:
            self._check_rate(record)
            noisy = [self._noisy(*each, record) for each in zip(self.leads, signals, strict=True)]
            signals = np.stack(noisy)
        from scipy import signal  # takes a second, which other data sets do not need

        up, down = self._factors(record)
        # The mean beyond the ends: a step from the offset of a file to 0 would add an artefact.
        resampled = signal.resample_poly(signals, up, down, axis=1, padtype="mean")
        scored = np.stack([z_score(lead) for lead in resampled])
        scored[constant] = 0.0
        return scored

    def place_of(self, samples: np.ndarray, record: Record) -> np.ndarray:
        """Return the numbers of samples of a record on the time grid of the result."""
        return np.rint(samples * (self.rate / record.rate)).astype(np.int64)

    def samples_in(self, seconds: float) -> int:
        """Return the number of samples of a window, at least 1."""
        return max(1, round(seconds * self.rate))

    def _factors(self, record: Record) -> tuple[int, int]:
        """Return the factors by which a record is resampled: up and down."""
        ratio = self.rate / Fraction(record.rate)
        if ratio > 1:
            inverse = (1 / ratio).limit_denominator(_LARGEST_FACTOR)
            return inverse.denominator, inverse.numerator
        ratio = ratio.limit_denominator(_LARGEST_FACTOR)
        return ratio.numerator, ratio.denominator

    def _noisy(self, name: str, lead: np.ndarray, record: Record) -> np.ndarray:
        """Return a lead (samples,) with noise that depends on no other lead and kind."""
        address = (self.noise_seed, "noise", record.name, name)
        (noisy,) = add_noise(
            lead[None],
            record.rate,
            self.noise,
            lambda kind: np.random.default_rng(derive_seed(*address, kind)),
            mains_hz=self.mains_hz,
        )
        return noisy

    def _check_present(self, leads: Sequence[str], record: Record) -> None:
        absent = [lead for lead in leads if lead not in record.leads]
        if absent:
            raise DataError(
                f"{record.header}: no lead {', '.join(absent)}; expected it among "
                f"{', '.join(record.leads)}; name leads of the file in task.options.leads, or name "
                "it in task.options.missing_leads, too"
            )

    def _check_rate(self, record: Record) -> None:
        if record.rate < _LEAST_NOISY_HZ:
            raise DataError(
                f"{record.header}: noise needs {_LEAST_NOISY_HZ} samples per second or more, "
                f"got {record.rate:g}; remove task.options.noise"
            )

    def _remove_invalid(self, signals: np.ndarray, record: Record) -> None:
        """Set leads with invalid samples to 0, or raise an error."""
        invalid = ~np.isfinite(signals)
        found = [lead for lead, bad in zip(self.leads, invalid.any(axis=1), strict=True) if bad]
        if found and self.nan_policy == "error":
            raise DataError(
                f"{record.files[0]}: {int(invalid.sum())} invalid samples (NaN) in lead "
                f"{', '.join(found)}; expected none; set task.options.nan_policy to missing to "
                "use 0 for such a lead"
            )
        signals[invalid.any(axis=1)] = 0.0


def checked_window(seconds: float) -> float:
    """Return the length of a window in seconds.

    Raises:
        ConfigError: it is out of range.
    """
    low, high = _SECONDS
    require_number("task.options.window_s", seconds, at_least=low, at_most=high)
    return float(seconds)
