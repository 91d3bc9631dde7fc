"""Leads for a network: names, rates, normalisation, missing leads and noise."""

import re

import numpy as np
import pytest

from analogmed.data.signals.leads import LeadReader
from analogmed.data.signals.records import Annotations, read_header, write_record
from analogmed.foundation.errors import ConfigError, DataError

RATE, SECONDS = 360, 10
ONE = Annotations(np.array([1]), ("N",))


@pytest.fixture
def record(tmp_path):
    time = np.arange(RATE * SECONDS) / RATE
    signals = np.stack([2 + np.sin(2 * np.pi * 3 * time), np.zeros(len(time)), np.sin(10 * time)])
    beats = Annotations(np.array([100]), ("N",))
    write_record(tmp_path / "r1.hea", signals, ["V5", "V2", "MLII"], RATE, beats)
    return read_header(tmp_path / "r1.hea")


def test_leads_have_the_order_of_the_reader_and_are_normalised(record):
    leads = LeadReader(("MLII", "V5"))(record)
    assert (leads.shape, leads.dtype) == ((2, 1000), np.float32)
    np.testing.assert_allclose(leads.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(leads.std(axis=1), 1, rtol=1e-5)
    expected = np.sin(2 * np.pi * 3 * np.arange(1000) / 100) * np.sqrt(2)
    np.testing.assert_allclose(leads[1, 20:-20], expected[20:-20], atol=0.01)


def test_frequencies_above_the_new_rate_are_removed(tmp_path):
    time = np.arange(RATE * SECONDS) / RATE
    slow, fast = np.sin(2 * np.pi * 5 * time), np.sin(2 * np.pi * 95 * time)
    write_record(tmp_path / "r.hea", (slow + fast)[None], ["I"], RATE, ONE)
    lead = LeadReader(("I",))(read_header(tmp_path / "r.hea"))[0]
    hz = np.fft.rfftfreq(1000, 0.01)
    power = np.abs(np.fft.rfft(lead)) ** 2
    assert power[np.abs(hz - 5) < 0.2].sum() > 0.99 * power.sum()  # 95 Hz would be at 5 Hz, too
    assert np.abs(lead).max() < 1.6


def test_places_follow_the_rate(record):
    reader = LeadReader(("V5",), rate=100)
    assert reader.place_of(np.array([0, 18, 19, 3599]), record).tolist() == [0, 5, 5, 1000]
    assert LeadReader(("V5",), rate=500)(record).shape == (1, 5000)


def test_constant_and_missing_leads_are_0(record):
    leads = LeadReader(("V5", "V2", "MLII", "III"), missing_leads=("MLII", "III"))(record)
    assert leads[0].any()
    assert not leads[1:].any()


@pytest.mark.parametrize("noise", [{}, {"muscle": 6}, {"baseline": 6, "mains": 6}])
def test_a_constant_lead_of_any_offset_is_0(tmp_path, noise):
    """Filters leave rounding errors of such a lead, which a z-score would enlarge."""
    offsets = np.array([0.123, -1.7, 3.001, 5.0])[:, None]
    write_record(tmp_path / "r.hea", np.tile(offsets, 3000), ["I", "II", "V1", "V2"], RATE, ONE)
    reader = LeadReader(("I", "II", "V1", "V2"), rate=200, noise=noise)
    assert not reader(read_header(tmp_path / "r.hea")).any()


def test_a_lead_that_a_record_lacks_is_named(record):
    with pytest.raises(DataError, match=r"r1.hea: no lead V1, III; expected it among V5, V2, MLII"):
        LeadReader(("V1", "MLII", "III"))(record)


def test_invalid_samples_are_an_error_or_a_missing_lead(record):
    samples = np.fromfile(record.files[0], dtype="<i2").reshape(-1, 3)
    samples[9, 0] = -(2**15)
    samples.tofile(record.files[0])
    with pytest.raises(DataError, match=r"r1.dat: 1 invalid samples \(NaN\) in lead V5; expected"):
        LeadReader(("MLII", "V5"))(record)
    leads = LeadReader(("MLII", "V5"), nan_policy="missing")(record)
    assert leads[0].any()
    assert not leads[1].any()


def test_noise_follows_from_seed_and_record(record):
    first, again, other = (
        LeadReader(("V5",), noise={"muscle": 6}, noise_seed=seed)(record) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - LeadReader(("V5",))(record)).max() > 0.1


def test_the_noise_of_a_lead_depends_on_no_other_lead(record):
    """So that conditions with and without a lead are paired."""
    noise = {"muscle": 6.0}
    (alone,) = LeadReader(("MLII",), noise=noise)(record)
    both = LeadReader(("V5", "MLII"), noise=noise)(record)
    missing = LeadReader(("V5", "MLII"), noise=noise, missing_leads=("V5",))(record)
    np.testing.assert_allclose(both[1], alone, atol=1e-5)
    np.testing.assert_allclose(missing[1], alone, atol=1e-5)


def test_each_kind_of_noise_of_a_lead_is_drawn_on_its_own(record):
    """A second kind of noise, too weak to see, does not change the first."""
    (one,) = LeadReader(("V5",), noise={"muscle": 6.0})(record)
    (two,) = LeadReader(("V5",), noise={"baseline": 100.0, "muscle": 6.0})(record)
    np.testing.assert_allclose(two, one, atol=1e-3)


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_noise_of_mains_remains_at_the_suggested_rate(record, mains_hz):
    options = {"noise": {"mains": 0.0}, "mains_hz": mains_hz}
    suggested = rf"task.options.rate: .* {mains_hz} Hz, got 100; set task.options.rate to (\d+)"
    with pytest.raises(ConfigError, match=suggested) as error:
        LeadReader(("V5",), **options)
    rate = int(re.search(suggested, str(error.value))[1])
    (lead,) = LeadReader(("V5",), rate=rate, **options)(record)
    power = np.abs(np.fft.rfft(lead)) ** 2
    hz = np.fft.rfftfreq(len(lead), 1 / rate)
    assert power[np.abs(hz - mains_hz) < 1].sum() == pytest.approx(0.5 * power.sum(), rel=0.1)


def test_an_odd_rate_needs_no_filter_of_billions_of_taps(record):
    text = record.header.read_text()
    record.header.write_text(text.replace(f"r1 3 {RATE} ", "r1 3 99999.999 "))
    assert LeadReader(("V5",))(read_header(record.header)).shape == (1, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leads": ()}, "task.options.leads: expected one or more different leads"),
        ({"leads": ("I", "I")}, r"expected one or more different leads, got \['I', 'I'\]"),
        (
            {"missing_leads": ("V1",)},
            "expected some of the leads I, II, but not all of them, got V1",
        ),
        ({"missing_leads": ("I", "II")}, "but not all of them"),
        ({"rate": 10}, "task.options.rate: expected a whole number from 50 to 1000, got 10"),
        ({"mains_hz": "50"}, "task.options.mains_hz: expected 50 or 60, got '50'"),
        ({"mains_hz": 55}, "task.options.mains_hz: expected 50 or 60, got 55"),
        ({"noise_seed": -1}, "task.options.noise_seed: expected a whole number from 0"),
        ({"nan_policy": "zero"}, "task.options.nan_policy: unknown value 'zero'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        LeadReader(**({"leads": ("I", "II")} | options))
