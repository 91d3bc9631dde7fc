import doctest

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analogmed.errors import ConfigError, DataError, NonFiniteError, ShapeError
from analogmed.evaluation import intervals, paired_tests
from analogmed.evaluation.statistics import (
    ChipMeans,
    PairedTest,
    paired_test,
    two_way_bootstrap,
)

N_CASES, N_CHIPS = 20, 10


def simulated(generator):
    """Both parts of the variance of the mean are equal: sd_case**2 / 20 == sd_chip**2 / 10."""
    case = generator.normal(0, np.sqrt(2.0), (N_CASES, 1))
    chip = generator.normal(0, 1.0, (1, N_CHIPS))
    return case + chip + generator.normal(0, 0.5, (N_CASES, N_CHIPS))


def coverage(interval_of, repeats=1000):
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(repeats):
        interval = interval_of(simulated(generator))
        hits += interval.low <= 0.0 <= interval.high
    return hits / repeats


class TestTwoWayBootstrap:
    def test_a_nominal_95_percent_interval_needs_both_patients_and_chips(self):
        cases = range(N_CASES)
        two_way = coverage(lambda v: two_way_bootstrap(v, patients=cases, n_boot=400))
        cases_only = coverage(
            lambda v: two_way_bootstrap(v.mean(axis=1), patients=cases, n_boot=400)
        )
        assert two_way >= 0.88
        assert cases_only <= 0.86

    def test_the_interval_of_a_deterministic_run_agrees_with_scipy(self):
        values = np.random.default_rng(0).normal(0.8, 0.1, 40)
        found = two_way_bootstrap(values, patients=range(40), n_boot=20_000, level=0.9)
        expected = stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile"
        ).confidence_interval
        assert found.estimate == pytest.approx(values.mean())
        assert (found.low, found.high) == pytest.approx(expected, abs=1.5e-3)
        assert (found.n_patients, found.n_chips, found.note) == (40, 0, "")

    def test_the_width_is_that_of_both_variances_together(self):
        values = simulated(np.random.default_rng(3))
        found = two_way_bootstrap(values, patients=range(N_CASES), n_boot=20_000)
        by_case = values.mean(axis=1).var() / N_CASES
        by_chip = values.mean(axis=0).var() / N_CHIPS
        expected = 2 * 1.96 * np.sqrt(by_case + by_chip)
        assert found.high - found.low == pytest.approx(expected, rel=0.05)

    def test_slices_of_one_patient_are_drawn_together(self):
        patient_means = np.array([0.2, 0.5, 0.9, 0.7])
        repeated = np.repeat(patient_means, 25)
        by_patient = two_way_bootstrap(repeated, patients=np.repeat(list("abcd"), 25))
        alone = two_way_bootstrap(patient_means, patients="abcd")
        assert (by_patient.low, by_patient.high) == pytest.approx((alone.low, alone.high))
        assert by_patient.n_patients == 4

    def test_a_constant_loss_on_every_case_has_a_difference_without_spread(self):
        digital = np.random.default_rng(0).uniform(0.5, 1.0, 12)
        analog = digital[:, None] - 0.1 * np.ones(5)
        drop = two_way_bootstrap(
            digital, analog, patients=range(12), statistic=lambda d, a: d.mean() - a.mean()
        )
        assert (drop.estimate, drop.low, drop.high) == pytest.approx((0.1, 0.1, 0.1))

    def test_two_times_share_their_chips(self):
        generator = np.random.default_rng(0)
        early = generator.normal(0.8, 0.05, (10, 6)) + generator.normal(0, 0.2, 6)
        change = two_way_bootstrap(
            early - 0.05, early, patients=range(10), statistic=lambda a, b: a.mean() - b.mean()
        )
        assert (change.low, change.high) == pytest.approx((-0.05, -0.05))

    def test_chips_of_two_networks_are_drawn_independently(self):
        generator = np.random.default_rng(0)
        case = generator.normal(0, 0.1, (30, 1))
        chips = [generator.normal(0, 0.05, n) for n in (12, 9)]
        gain = two_way_bootstrap(
            case + 0.8 + chips[0],
            case + 0.7 + chips[1],
            patients=range(30),
            statistic=lambda a, b: a.mean() - b.mean(),
            chip_sets=("first", "second"),
            n_boot=20_000,
        )
        assert gain.estimate == pytest.approx(0.1 + chips[0].mean() - chips[1].mean())
        assert gain.n_chips == 9
        expected = np.hypot(chips[0].std() / np.sqrt(12), chips[1].std() / np.sqrt(9))
        assert gain.high - gain.low == pytest.approx(2 * 1.96 * expected, rel=0.05)

    def test_a_ratio_of_means_is_not_a_mean_of_ratios(self):
        digital, analog = np.array([1.0, 0.1]), np.array([[0.5, 0.5], [0.1, 0.1]])
        ratio = two_way_bootstrap(
            analog, digital, patients="ab", statistic=lambda a, d: a.mean() / d.mean()
        )
        assert ratio.estimate == pytest.approx(0.6 / 1.1)

    def test_the_spread_over_chips_is_that_of_their_case_means(self):
        values = np.random.default_rng(0).normal(0.8, 0.1, (15, 7))
        found = two_way_bootstrap(values, patients=range(15), statistic=ChipMeans.std)
        assert found.estimate == pytest.approx(values.mean(axis=0).std(ddof=1))
        assert 0.0 <= found.low < found.estimate < found.high

    def test_undefined_values_are_left_out_of_the_means(self):
        values = np.array([[0.5, 0.7], [np.nan, 0.9], [np.nan, np.nan]])
        found = two_way_bootstrap(values, patients="abc")
        assert found.estimate == pytest.approx((0.5 + 0.8) / 2)
        assert found.n_patients == 2

    def test_the_seed_alone_decides_the_draw(self):
        values = simulated(np.random.default_rng(0))
        draw = [two_way_bootstrap(values, patients=range(N_CASES), seed=s) for s in (1, 1, 2)]
        assert draw[0] == draw[1]
        assert draw[0] != draw[2]

    @pytest.mark.parametrize(
        "values", [np.full((1, 5), 0.8), np.full((6, 1), 0.8), np.array([0.8])]
    )
    def test_one_case_or_one_chip_gives_no_interval(self, values):
        found = two_way_bootstrap(values, patients=range(len(values)))
        assert found.estimate == pytest.approx(0.8)
        assert np.isnan([found.low, found.high]).all()
        assert found.note == "n too small"

    def test_many_cases_of_one_patient_give_no_interval(self):
        found = two_way_bootstrap(np.linspace(0, 1, 30), patients=["a"] * 30)
        assert np.isnan(found.low)
        assert found.note == "n too small"

    def test_a_baseline_of_zero_has_no_ratio(self):
        found = two_way_bootstrap(
            np.ones((3, 2)),
            np.zeros(3),
            patients="abc",
            statistic=lambda a, d: a.mean() / d.mean(),
        )
        assert np.isnan([found.estimate, found.low, found.high]).all()
        assert found.note == "undefined"

    def test_arrays_that_do_not_share_their_axes_are_refused(self):
        with pytest.raises(ShapeError, match=r"3 cases.*\(4,\)"):
            two_way_bootstrap(np.ones(4), patients="abc")
        with pytest.raises(ShapeError, match=r"set of chips.*\[2, 5\]"):
            two_way_bootstrap(np.ones((3, 2)), np.ones((3, 5)), patients="abc")

    def test_every_array_needs_its_set_of_chips(self):
        with pytest.raises(ShapeError, match="names 1 sets of chips for 2 arrays"):
            two_way_bootstrap(np.ones((3, 2)), np.ones((3, 5)), patients="abc", chip_sets="a")

    def test_settings_and_values_out_of_range_are_refused(self):
        with pytest.raises(ConfigError, match="level"):
            two_way_bootstrap(np.ones(3), patients="abc", level=95)
        with pytest.raises(ConfigError, match="n_boot"):
            two_way_bootstrap(np.ones(3), patients="abc", n_boot=0)
        with pytest.raises(NonFiniteError, match="Inf"):
            two_way_bootstrap(np.array([1.0, np.inf]), patients="ab")


class TestPairedTest:
    def test_few_cases_are_enumerated_exactly(self):
        first = {case: 0.8 + 0.01 * i for i, case in enumerate("abcdef")}
        second = dict.fromkeys("abcdef", 0.5)
        assert paired_test(first, second).p_value == pytest.approx(2 / 2**6)

    def test_it_agrees_with_the_t_test_on_normal_differences(self):
        generator = np.random.default_rng(4)
        first = pd.Series(generator.normal(0.80, 0.05, 60))
        second = first - generator.normal(0.01, 0.04, 60)
        expected = stats.ttest_rel(first, second).pvalue
        found = paired_test(first, second)
        assert found.difference == pytest.approx((first - second).mean())
        assert found.p_value == pytest.approx(expected, rel=0.2)

    def test_the_order_of_the_cases_does_not_matter(self):
        first = {"a": 0.9, "b": 0.8, "c": 0.7}
        second = {"c": 0.6, "a": 0.7, "b": 0.7}
        assert paired_test(first, second).difference == pytest.approx((0.2 + 0.1 + 0.1) / 3)

    def test_no_difference_anywhere_is_p_one(self):
        same = {"a": 0.9, "b": 0.8, "c": 0.7}
        assert paired_test(same, dict(same)) == PairedTest(0.0, 1.0, 3)

    def test_different_case_sets_are_refused_by_name(self):
        with pytest.raises(DataError, match=r"2 cases.*'b'"):
            paired_test({"a": 0.9, "b": 0.8}, {"a": 0.9, "c": 0.8})

    def test_cases_of_one_patient_count_once(self):
        cases = [f"slice{i}" for i in range(40)]
        patients = {case: f"patient{i % 4}" for i, case in enumerate(cases)}
        better, worse = dict.fromkeys(cases, 0.9), dict.fromkeys(cases, 0.8)
        found = paired_test(better, worse, patients=patients)
        assert found.n_patients == 4
        assert found.p_value == pytest.approx(2 / 2**4)

    def test_a_case_without_a_patient_is_refused(self):
        with pytest.raises(DataError, match="'b' has no patient"):
            paired_test({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 0.5}, patients={"a": "x"})

    def test_one_pair_has_no_p_value(self):
        found = paired_test({"a": 0.9}, {"a": 0.8})
        assert np.isnan(found.p_value)
        assert found.note == "n too small"

    def test_undefined_pairs_are_counted(self):
        first, second = {"a": 0.9, "b": np.nan, "c": 0.8}, {"a": 0.9, "b": 0.5, "c": 0.8}
        found = paired_test(first, second)
        assert (found.p_value, found.n_patients) == (1.0, 2)
        assert found.note == "1 undefined pairs left out"


@pytest.mark.parametrize("module", [intervals, paired_tests])
def test_the_examples_in_the_docstrings_hold(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
