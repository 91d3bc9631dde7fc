import numpy as np
import pytest

from analogmed.evaluation.statistics.intervals import two_way_bootstrap
from analogmed.evaluation.statistics.planning import expected_width, variance_components
from analogmed.evaluation.statistics.stopping import enough
from analogmed.foundation.errors import ConfigError


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


def test_it_goes_on_where_the_bound_makes_the_interval_narrow_enough():
    """Student's t of the patients alone is wider than 0.052, but no Dice is above 1."""
    generator = np.random.default_rng(2)
    patients = np.array([0.995, 0.996, 0.997, 0.998, 0.999, 0.997, 0.905])[:, None]
    chips = -0.008 * np.abs(generator.normal(size=(1, 40)))
    values = np.clip(patients + chips + 0.002 * generator.normal(size=(7, 40)), 0.0, 1.0)
    alone = variance_components(values, patients=range(7))
    assert expected_width(alone, 7, 1000) > 0.052
    first = enough(values[:, :5], 0.052, bounds=(0.0, 1.0))
    assert (first.stop, first.reason) == (False, "more chips needed")
    assert enough(values[:, : first.expected_chips], 0.052, bounds=(0.0, 1.0)).reached


def test_skewed_chips_need_as_many_more_as_their_interval_is_wider_than_students():
    """Otherwise each round of a sweep adds a single chip."""
    generator = np.random.default_rng(0)
    values = 0.8 + generator.normal(0, 0.002, (12, 1)) + generator.normal(0, 0.003, (1, 10))
    values[:, 4] -= 0.2
    of_student = expected_width(variance_components(values, patients=range(12)), 12, 10)
    found = enough(values, of_student)
    wider = (found.interval.high - found.interval.low) / of_student
    assert wider > 1.1
    assert found.expected_chips == pytest.approx(10 * wider**2, rel=0.25)


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
    with pytest.raises(ConfigError, match="width: expected a finite number above 0"):
        enough(values_of(5), -1.0)
    with pytest.raises(ConfigError, match="min_chips"):
        enough(values_of(5), 0.1, min_chips=1)
