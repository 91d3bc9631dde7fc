"""Noise of ECG leads: ratio of powers, band, independence of leads, and settings."""

import numpy as np
import pytest

from analogmed.data.signals.noise import add_noise, checked_noise, without_baseline
from analogmed.foundation.errors import ConfigError

RATE, SECONDS = 360, 40


@pytest.fixture(scope="module")
def signals():
    time = np.arange(RATE * SECONDS) / RATE
    wave = np.sin(2 * np.pi * 7 * time)
    return np.stack([wave, 3 * wave + 20 + time / 10])


def seeded(seed):
    """Return the generator of each kind of noise."""
    return lambda kind: np.random.default_rng([seed, *kind.encode()])


def noise_of(signals, kind, ratio_db, **options):
    noisy = add_noise(signals, RATE, {kind: ratio_db}, seeded(1), **options)
    return noisy - signals


@pytest.mark.parametrize("kind", ["baseline", "muscle", "mains"])
@pytest.mark.parametrize("ratio_db", [12, 6, -3])
def test_noise_has_the_ratio_to_each_lead_without_its_baseline(signals, kind, ratio_db):
    noise = noise_of(signals, kind, ratio_db)
    ratios = 10 * np.log10(np.array([0.5, 4.5]) / noise.var(axis=1))
    np.testing.assert_allclose(ratios, ratio_db, atol=0.2)


@pytest.mark.parametrize(
    ("kind", "low_hz", "high_hz"), [("baseline", 0, 0.6), ("muscle", 15, 170), ("mains", 59, 61)]
)
def test_noise_has_the_band_of_its_kind(signals, kind, low_hz, high_hz):
    noise = noise_of(signals, kind, 6, mains_hz=60)
    power = np.abs(np.fft.rfft(noise, axis=1)) ** 2
    hz = np.fft.rfftfreq(noise.shape[1], 1 / RATE)
    inside = (hz >= low_hz) & (hz <= high_hz)
    assert (power[:, inside].sum(axis=1) > 0.9 * power.sum(axis=1)).all()
    assert abs(np.corrcoef(noise)[0, 1]) < 0.999


def test_kinds_are_added_and_a_constant_lead_stays(signals):
    flat = np.full_like(signals, 4.0)
    both = {"muscle": 6.0, "mains": 6.0}
    np.testing.assert_allclose(add_noise(flat, RATE, both, seeded(0)), flat, atol=1e-6)
    ratio = add_noise(signals, RATE, both, seeded(0)) - signals
    assert 10 * np.log10(0.5 / ratio[0].var()) == pytest.approx(3, abs=0.3)


def test_a_baseline_is_removed(signals):
    assert np.abs(without_baseline(signals, RATE)[1].mean()) < 0.01


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"muscles": 6}, "unknown kind 'muscles'; did you mean 'muscle'"),
        ({"muscle": "6"}, r"noise.muscle \(dB\): expected a finite number at least -100 and at"),
        ({"muscle": True}, r"noise.muscle \(dB\)"),
        (["muscle"], r"expected a mapping from kinds to dB, for instance \{muscle: 12\}"),
    ],
)
def test_settings_that_do_not_fit_are_refused(noise, message):
    with pytest.raises(ConfigError, match=message):
        checked_noise(noise)


def test_the_order_of_kinds_does_not_change_the_noise():
    assert list(checked_noise({"mains": 6, "baseline": 12})) == ["baseline", "mains"]
