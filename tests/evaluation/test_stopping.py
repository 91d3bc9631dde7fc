import numpy as np
import pytest

from analogmed.errors import ConfigError
from analogmed.evaluation.intervals import two_way_bootstrap
from analogmed.evaluation.stopping import enough


def values_of(chips, *, chip_std=0.03, patient_std=0.002, cases=20, seed=0):
    generator = np.random.default_rng(seed)
    patients = 0.8 + patient_std * generator.normal(size=(cases, 1))
    return (patients + chip_std * generator.normal(size=(1, 60)))[:, :chips]


def test_chips_are_added_until_the_interval_is_narrow():
    found = [enough(values_of(chips), 0.03) for chips in range(2, 61)]
    stop = next(i for i, decision in enumerate(found) if decision)
    assert found[stop].reached
    assert found[stop].reason == "narrow enough"
    interval = found[stop].interval
    assert interval.high - interval.low <= 0.03
    assert interval == two_way_bootstrap(values_of(stop + 2), patients=range(20))
    assert all(decision.reason == "more chips needed" for decision in found[:stop])
    assert found[stop - 1].interval.high - found[stop - 1].interval.low > 0.03


def test_before_the_least_number_of_chips_no_width_is_enough():
    agreeing = np.full((6, 4), 0.8)
    assert not enough(agreeing, 0.1, min_chips=5)
    assert enough(agreeing, 0.1, min_chips=4).reached


def test_the_budget_ends_a_sweep_that_is_still_too_wide():
    found = enough(values_of(6), 0.001, max_chips=6)
    assert (found.stop, found.reached, found.reason) == (True, False, "budget used")


def test_it_stops_where_the_patients_alone_are_too_wide():
    found = enough(values_of(10, patient_std=0.2), 0.05)
    assert (found.stop, found.reached) == (True, False)
    assert found.reason == "more chips would not help"


def test_the_expected_number_of_chips_is_about_enough():
    expected = enough(values_of(10), 0.02).expected_chips
    used = next(m for m in range(5, 61) if enough(values_of(m), 0.02))
    assert 0.5 * used <= expected <= 2.0 * used


def test_failed_chips_and_single_failures_do_not_end_the_rule():
    values = values_of(8)
    values[:, 3] = np.nan
    values[2, 5] = np.nan
    found = enough(values, 0.03)
    assert found.interval.n_chips == 7
    assert found.reason == "more chips needed"
    nothing = enough(np.full((4, 6), np.nan), 0.03, max_chips=6)
    assert (nothing.stop, nothing.reached) == (True, False)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="width must be positive"):
        enough(values_of(5), -1.0)
    with pytest.raises(ConfigError, match="min_chips"):
        enough(values_of(5), 0.1, min_chips=1)
