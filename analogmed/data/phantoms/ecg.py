"""ECG with beats of five classes from a moving dipole, as WFDB records with annotations.

Source: McSharry et al. 2003, doi:10.1109/TBME.2003.808805, for the form of a beat; Sameni et al.
2007, doi:10.1155/2007/43407, for the dipole; Dower, Machado and Osborne 1980,
doi:10.1002/clc.4960030202, for the leads.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analogmed.data.signals.leads import TWELVE
from analogmed.data.signals.noise import add_noise
from analogmed.data.signals.records import Annotations, write_record
from analogmed.foundation.seeds import derive_seed

RATE = 360
"""Samples per second, as of MIT-BIH."""
WAVES = ("P", "Q", "R", "S", "T")
SYMBOLS = ("N", "A", "V", "F", "/")
"""Symbols of normal, supraventricular, ventricular, fusion and paced beats."""
_N, _A, _V, _F, _PACED = range(len(SYMBOLS))

_ANGLES = np.radians([-70.0, -15.0, 0.0, 15.0, 100.0])
_WIDTHS = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
"""Place and width of the waves, where an RR interval of 1 s has the angle 2 pi."""
_VECTORS = np.array(
    [(0.08, 0.12, -0.03), (-0.05, -0.10, 0.10), (0.9, 1.1, 0.35), (-0.15, -0.25, 0.45),
     (0.22, 0.28, -0.10)]
)  # fmt: skip
"""Dipole of the waves in mV; x to the left, y down, z to the back."""
_DOWER = np.array(
    [(0.632, -0.235, 0.059), (0.235, 1.066, -0.132), (-0.515, 0.157, -0.917),
     (0.044, 0.164, -1.387), (0.882, 0.098, -1.277), (1.213, 0.127, -0.601),
     (1.125, 0.127, -0.086), (0.831, 0.076, 0.230)]
)  # fmt: skip
"""Leads I, II and V1 to V6 of a dipole."""
_QRS = slice(1, 4)
_P, _R, _T = 0, 2, 4
_ECTOPIC_DISTANCE = (0.1, 1.0)
"""Place of a ventricular beat between a normal one, 0, and the ectopic dipole, 1."""
_ECTOPIC_WIDENING = (0.3, 1.2)
"""Increase of the QRS width at the distance 1."""
_EARLY_P = np.radians(-45.0)
_SPIKE_S = 0.002
_REACH = 4.0
"""Number of widths at which a wave ends."""


@dataclass(frozen=True)
class _Heart:
    """Form and rhythm of a patient.

    Attributes:
        interval_s: mean RR interval.
        irregularity: relative standard deviation of RR intervals.
        vectors: dipole of the waves of a normal beat in mV, shape (5, 3).
        qrs_width: factor of the width of a normal QRS complex.
        ectopic: dipole of an ectopic ventricular R wave in mV, shape (3,).
        shares: share of beats of each symbol; N has the rest.
    """

    interval_s: float
    irregularity: float
    vectors: np.ndarray
    qrs_width: float
    ectopic: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class _Waves:
    """Waves of a beat: angles and widths (5,), dipole in mV (5, 3)."""

    angles: np.ndarray
    widths: np.ndarray
    vectors: np.ndarray


def write_ecg(folder: Path, seed: int, n_patients: int, size: int) -> None:
    """Write a record of 12 leads with annotated beats for each patient.

    Args:
        folder: existing empty folder.
        seed: root seed of all draws.
        n_patients: number of patients.
        size: length of a record in seconds.
    """
    for index in range(n_patients):
        rng = np.random.default_rng(derive_seed(seed, "ecg", index))
        signals, annotations = draw_ecg(rng, size)
        header = folder / f"p{index + 1:04}.hea"
        write_record(header, signals, TWELVE, RATE, annotations)


def draw_ecg(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, Annotations]:
    """Return the leads (12, samples) of a new patient in mV, and the annotated beats.

    Noise is added to the leads I, II and V1 to V6, from which the others follow exactly.
    """
    heart = _draw_heart(rng)
    length = round(seconds * RATE)
    peaks_s, symbols, intervals_s = _draw_rhythm(rng, heart, seconds)
    dipole = np.zeros((3, length))
    for peak_s, symbol, interval_s in zip(peaks_s, symbols, intervals_s, strict=True):
        _add_beat(dipole, rng, heart, symbol, peak_s, interval_s)
    noise = dict.fromkeys(("baseline", "muscle", "mains"), rng.uniform(8, 17))
    eight = add_noise(_DOWER @ dipole, RATE, noise, lambda _: rng)
    samples = np.rint(peaks_s * RATE).astype(np.int64)
    inside = (samples >= 0) & (samples < length)
    kept = [SYMBOLS[symbol] for symbol, is_inside in zip(symbols, inside, strict=True) if is_inside]
    return twelve_leads(eight), Annotations(samples[inside], tuple(kept))


def twelve_leads(eight: np.ndarray) -> np.ndarray:
    """Return the 12 standard leads of leads I, II and V1 to V6, shape (8, samples)."""
    first, second = eight[:2]
    limbs = (second - first, -(first + second) / 2, first - second / 2, second - first / 2)
    return np.vstack([first, second, *limbs, eight[2:]])


def _draw_heart(rng: np.random.Generator) -> _Heart:
    vectors = _VECTORS * rng.normal(1, 0.15, size=(len(WAVES), 1))
    direction = rng.standard_normal(3)
    direction *= rng.uniform(1.2, 2.0) / np.linalg.norm(direction)
    shares = np.zeros(len(SYMBOLS))
    shares[_A] = rng.uniform(0.04, 0.25) * (rng.random() < 0.6)
    shares[_V] = rng.uniform(0.04, 0.25) * (rng.random() < 0.6)
    shares[_F] = rng.uniform(0.03, 0.12) * (shares[_V] > 0 and rng.random() < 0.6)
    shares[_PACED] = 0.3 * (rng.random() < 0.04)
    shares[_N] = 1 - shares.sum()
    return _Heart(
        interval_s=rng.uniform(0.6, 1.1),
        irregularity=0.12 if rng.random() < 0.25 else 0.03,
        vectors=vectors,
        qrs_width=1.6 if rng.random() < 0.15 else 1.0,
        ectopic=0.5 * vectors[_R] + 0.5 * direction,
        shares=shares,
    )


def _draw_rhythm(
    rng: np.random.Generator, heart: _Heart, seconds: float
) -> tuple[np.ndarray, list[int], list[float]]:
    """Return the R peaks in seconds, and symbol and preceding RR interval of each beat."""
    peaks: list[float] = []
    symbols: list[int] = []
    intervals: list[float] = []
    time, after = -rng.uniform(0, heart.interval_s), 1.0
    while time < seconds:
        follows_normal = not symbols or symbols[-1] == _N
        symbol = int(rng.choice(len(SYMBOLS), p=heart.shares)) if follows_normal else _N
        own = heart.interval_s * float(np.clip(rng.normal(1, heart.irregularity), 0.7, 1.4))
        factor, following = _prematurity(rng, symbol)
        interval = own * factor * after
        time, after = time + interval, following
        peaks.append(time)
        symbols.append(symbol)
        intervals.append(interval)
    return np.array(peaks), symbols, intervals


def _prematurity(rng: np.random.Generator, symbol: int) -> tuple[float, float]:
    """Return the factors of the RR intervals before and after a beat."""
    if symbol == _A:
        return rng.uniform(0.65, 0.95), rng.uniform(1.0, 1.1)
    if symbol == _V:
        factor = rng.uniform(0.6, 1.0)
        return factor, 2 - factor
    return (rng.uniform(0.9, 1.0) if symbol == _F else 1.0), 1.0


def _add_beat(
    dipole: np.ndarray,
    rng: np.random.Generator,
    heart: _Heart,
    symbol: int,
    peak_s: float,
    interval_s: float,
) -> None:
    """Add a beat to the dipole (3, samples) in mV."""
    waves = _waves_of(rng, heart, symbol)
    scale = np.sqrt(interval_s) / (2 * np.pi)
    for angle, width, vector in zip(waves.angles, waves.widths, waves.vectors, strict=True):
        _add_wave(dipole, peak_s + angle * scale, width * scale, vector * rng.normal(1, 0.03))
    if symbol == _PACED:
        start = round((peak_s - 0.06) * RATE)
        spike = slice(max(0, start), max(0, start + max(1, round(_SPIKE_S * RATE))))
        dipole[:, spike] += 1.5 * heart.vectors[_R][:, None]


def _add_wave(dipole: np.ndarray, centre_s: float, width_s: float, vector: np.ndarray) -> None:
    first = max(0, int((centre_s - _REACH * width_s) * RATE))
    last = min(dipole.shape[1], int((centre_s + _REACH * width_s) * RATE) + 1)
    if first < last:
        time = np.arange(first, last) / RATE - centre_s
        dipole[:, first:last] += vector[:, None] * np.exp(-0.5 * (time / width_s) ** 2)


def _waves_of(rng: np.random.Generator, heart: _Heart, symbol: int) -> _Waves:
    normal = _normal(heart)
    if symbol == _A:
        return _supraventricular(rng, normal)
    if symbol == _V:
        return _ventricular(rng, heart, normal)
    if symbol == _F:
        weight = rng.uniform(0.4, 0.6)
        other = _ventricular(rng, heart, normal)
        return _Waves(
            weight * normal.angles + (1 - weight) * other.angles,
            weight * normal.widths + (1 - weight) * other.widths,
            weight * normal.vectors + (1 - weight) * other.vectors,
        )
    if symbol == _PACED:
        return _ventricular(rng, heart, normal)
    return normal


def _normal(heart: _Heart) -> _Waves:
    return _widened(_Waves(_ANGLES, _WIDTHS, heart.vectors), heart.qrs_width)


def _supraventricular(rng: np.random.Generator, normal: _Waves) -> _Waves:
    """Return a beat with an ectopic P wave, which is changed or inverted, and later."""
    angles, vectors = normal.angles.copy(), normal.vectors.copy()
    angles[_P] = _EARLY_P
    vectors[_P] *= rng.uniform(-1.0, 0.6)
    return _Waves(angles, normal.widths, vectors)


def _ventricular(rng: np.random.Generator, heart: _Heart, normal: _Waves) -> _Waves:
    """Return a beat without P wave, with a wide QRS complex and an opposite T wave.

    Some beats differ little from normal ones, as those that start near the conduction system do.
    """
    distance = rng.uniform(*_ECTOPIC_DISTANCE)
    vectors = normal.vectors.copy()
    vectors[_P] = 0
    vectors[_R] += distance * (heart.ectopic - vectors[_R])
    opposite = -np.linalg.norm(vectors[_T]) * heart.ectopic / np.linalg.norm(heart.ectopic)
    vectors[_T] += distance * (opposite - vectors[_T])
    factor = (1 + distance * rng.uniform(*_ECTOPIC_WIDENING)) / heart.qrs_width
    return _widened(_Waves(normal.angles, normal.widths, vectors), max(1.0, factor))


def _widened(waves: _Waves, factor: float) -> _Waves:
    """Return waves with a QRS complex that is wider by a factor."""
    angles, widths = waves.angles.copy(), waves.widths.copy()
    angles[_QRS] *= factor
    widths[_QRS] *= factor
    return _Waves(angles, widths, waves.vectors)
