"""Noise of ECG leads at a given signal-to-noise ratio: baseline wander, muscle and mains."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_number
from analogmed.foundation.text import known_name, nearest

_BASELINE_HZ = 0.5
"""Upper limit of the baseline, which is removed where the power of a signal is measured."""
_BASELINE_SINES = 5
_MUSCLE_HZ = (20.0, 150.0)
_BELOW_NYQUIST = 0.95
_ORDER = 2
_MOST_DB = 100
_OPTION = "task.options.noise"


def add_noise(
    signals: np.ndarray,
    rate: float,
    noise: Mapping[str, float],
    generator: Callable[[str], np.random.Generator],
    *,
    mains_hz: float = 50.0,
) -> np.ndarray:
    """Return leads with noise of each kind.

    The signal-to-noise ratio is 10 log10(var(lead) / var(noise)) of each lead, after removal of its
    baseline. A constant lead stays as it is, except for rounding errors.

    Args:
        signals: leads, shape (leads, samples).
        rate: samples per second.
        noise: signal-to-noise ratio in dB by kind: ``baseline`` (sines below 0.5 Hz), ``muscle``
            (white noise from 20 to 150 Hz, or to the limit of the rate) or ``mains`` (a sine).
        generator: function of a kind of noise, for the random number generator of all its leads.
        mains_hz: frequency of mains.
    """
    power = without_baseline(signals, rate).var(axis=1, keepdims=True)
    noisy = signals
    for kind, ratio_db in noise.items():
        drawn = _KINDS[kind](generator(kind), signals.shape, rate, mains_hz)
        scale = np.sqrt(power / 10 ** (ratio_db / 10) / drawn.var(axis=1, keepdims=True))
        noisy = noisy + scale * drawn
    return noisy


def without_baseline(signals: np.ndarray, rate: float) -> np.ndarray:
    """Return leads (leads, samples) without their part below 0.5 Hz."""
    from scipy import signal  # takes a second, which other data sets do not need

    filter_ = signal.butter(_ORDER, _BASELINE_HZ, "highpass", fs=rate, output="sos")
    pad = min(int(rate / _BASELINE_HZ), signals.shape[1] - 1)
    filtered: np.ndarray = signal.sosfiltfilt(filter_, signals, axis=1, padlen=pad)
    return filtered


def checked_noise(noise: Any) -> dict[str, float]:
    """Return signal-to-noise ratios by kind of noise, in an order that never changes.

    Raises:
        ConfigError: a kind is unknown, or a ratio is no finite number.
    """
    example = "a mapping from kinds to dB, for instance {muscle: 12}"
    if not isinstance(noise, Mapping):
        raise ConfigError(f"{_OPTION}: expected {example}, got {noise!r}")
    noise = {known_name(kind, _KINDS): ratio for kind, ratio in noise.items()}
    for kind, ratio in noise.items():
        if kind not in _KINDS:
            raise ConfigError(f"{_OPTION}: unknown kind {kind!r}; {nearest(str(kind), _KINDS)}")
        require_number(f"{_OPTION}.{kind} (dB)", ratio, at_least=-_MOST_DB, at_most=_MOST_DB)
    return {kind: float(noise[kind]) for kind in _KINDS if kind in noise}


def _baseline(
    rng: np.random.Generator, shape: tuple[int, ...], rate: float, _: float
) -> np.ndarray:
    """Return a sum of slow sines."""
    time = np.arange(shape[1]) / rate
    slowest = min(0.05, 0.5 / max(time[-1], 1.0))
    total = np.zeros(shape)
    for _sine in range(_BASELINE_SINES):
        frequency = rng.uniform(slowest, _BASELINE_HZ, size=(shape[0], 1))
        phase = rng.uniform(0, 2 * np.pi, size=(shape[0], 1))
        total += rng.uniform(0.5, 1.0, size=(shape[0], 1)) * np.sin(
            2 * np.pi * frequency * time + phase
        )
    return total


def _muscle(rng: np.random.Generator, shape: tuple[int, ...], rate: float, _: float) -> np.ndarray:
    """Return white noise in a band."""
    from scipy import signal  # takes a second, which other data sets do not need

    low, high = _MUSCLE_HZ
    band = (low, min(high, _BELOW_NYQUIST * rate / 2))
    filter_ = signal.butter(_ORDER, band, "bandpass", fs=rate, output="sos")
    filtered: np.ndarray = signal.sosfilt(filter_, rng.standard_normal(shape), axis=1)
    return filtered


def _mains(
    rng: np.random.Generator, shape: tuple[int, ...], rate: float, mains_hz: float
) -> np.ndarray:
    """Return a sine of one phase per lead."""
    phase = rng.uniform(0, 2 * np.pi, size=(shape[0], 1))
    return np.sin(2 * np.pi * mains_hz * np.arange(shape[1]) / rate + phase)


_KINDS: Mapping[str, Callable[[np.random.Generator, tuple[int, ...], float, float], np.ndarray]]
_KINDS = MappingProxyType({"baseline": _baseline, "muscle": _muscle, "mains": _mains})
