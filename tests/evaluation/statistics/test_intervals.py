import doctest
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analogmed.evaluation.statistics import (
    PairedTest,
    difference,
    holm,
    intervals,
    paired_test,
    paired_tests,
    ratio,
    spread,
    std_between_chips,
    two_way_bootstrap,
)
from analogmed.evaluation.statistics.intervals import TOO_SMALL
from analogmed.foundation.errors import ConfigError, DataError, NonFiniteError, ShapeError

N_CASES, N_CHIPS = 20, 10


def simulated(generator, *, chips=N_CHIPS, skewed=False):
    """Both parts of the variance of the mean are equal: sd_case**2 / 20 == sd_chip**2 / chips."""
    case = generator.normal(0, 1.0, (N_CASES, 1))
    if skewed:
        case = 1.0 - generator.exponential(1.0, (N_CASES, 1))
    chip = generator.normal(0, 1.0, (1, chips)) * np.sqrt(chips / N_CASES)
    return case + chip + generator.normal(0, 0.3, (N_CASES, chips))


def coverage(interval_of, repeats=300, **settings):
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(repeats):
        interval = interval_of(simulated(generator, **settings))
        hits += interval.low <= 0.0 <= interval.high
    return hits / repeats


class TestTwoWayBootstrap:
    @pytest.mark.slow
    def test_a_nominal_95_percent_interval_needs_both_patients_and_chips(self):
        cases = range(N_CASES)
        two_way = coverage(lambda v: two_way_bootstrap(v, patients=cases, n_boot=200))
        cases_only = coverage(
            lambda v: two_way_bootstrap(v.mean(axis=1), patients=cases, n_boot=200)
        )
        assert two_way >= 0.92
        assert cases_only <= 0.86

    @pytest.mark.slow
    @pytest.mark.parametrize("skewed", [False, True])
    def test_it_holds_the_truth_with_five_chips(self, skewed):
        found = coverage(
            lambda v: two_way_bootstrap(v, patients=range(N_CASES), n_boot=200),
            chips=5,
            skewed=skewed,
        )
        assert 0.92 <= found <= 0.99

    @pytest.mark.parametrize(("missed", "n"), [(1, 20), (1, 40), (2, 40)])
    def test_few_missed_patients_do_not_mean_that_all_may_be_missed(self, missed, n):
        """No farther than the limits of Clopper and Pearson for the share of the missed."""
        drops = np.array([1.0] * missed + [0.0] * (n - missed))
        found = two_way_bootstrap(drops, patients=range(n), bounds=(-1.0, 1.0), n_boot=20_000)
        exact = stats.binomtest(missed, n).proportion_ci(method="exact")
        assert found.high == pytest.approx(exact.high, rel=0.03)

    def test_a_missed_patient_leaves_the_ratio_to_digital_above_zero(self):
        digital = np.random.default_rng(0).normal(0.88, 0.03, 8)
        analog = np.repeat(digital[:, None] - 0.01, 5, axis=1)
        analog[0] = 0.0
        found = two_way_bootstrap(
            analog, digital, patients=range(8), statistic=ratio, bounds=(0.0, np.inf)
        )
        lost = stats.binomtest(1, 8).proportion_ci(method="exact").high
        assert found.low == pytest.approx((1.0 - lost) * 0.87 / 0.88, abs=0.05)

    @pytest.mark.parametrize(("missed", "n"), [(1, 10), (2, 20)])
    def test_a_distance_without_a_bound_stays_within_the_image(self, missed, n):
        """One of 10 or two of 20 at the diagonal of 400: the share has an upper limit of 0.45."""
        distances = np.random.default_rng(0).uniform(2.0, 4.0, (n, 5))
        distances[:missed] = 400.0
        found = two_way_bootstrap(distances, patients=range(n), bounds=(0.0, np.inf))
        assert found.high < 400.0

    @pytest.mark.exhaustive
    def test_it_holds_the_truth_where_one_patient_in_ten_is_missed(self):
        generator = np.random.default_rng(0)
        hits = 0
        for _ in range(200):
            digital = generator.normal(0.88, 0.05, 40)
            analog = digital[:, None] - 0.01 + generator.normal(0, 0.01, (40, 5))
            analog[generator.random(40) < 0.1] = 0.0
            found = two_way_bootstrap(
                digital,
                analog,
                patients=range(40),
                statistic=difference,
                bounds=(-1.0, 1.0),
                n_boot=500,
            )
            hits += found.low <= 0.01 * 0.9 + 0.88 * 0.1 <= found.high
        assert hits / 200 >= 0.92

    @pytest.mark.parametrize("n", [8, 10, 20, 37])
    def test_equal_patients_have_no_spread_whatever_their_value_rounds_to(self, n):
        for value in (0.514, 0.1, 1.0 / 3.0, 0.7 * np.hypot(128, 128), 1e-9):
            found = two_way_bootstrap(np.full(n, value), patients=range(n))
            assert (found.low, found.high) == (found.estimate, found.estimate)

    def test_a_single_sample_is_enough_to_return_an_interval(self):
        values = np.array([0.0] * 9 + [1.0])
        for seed in range(20):
            found = two_way_bootstrap(values, patients=range(10), n_boot=1, seed=seed)
            assert found.low <= found.estimate <= found.high

    def test_students_t_is_taken_where_no_sample_has_a_value(self):
        """A sample without the last patient, the only one with a first value, is undefined."""
        first, second = np.array([np.nan] * 9 + [1.0]), np.linspace(0.1, 1.0, 10)

        def statistic(a, b):
            return a.mean() + b.mean()

        expected = 1.0 + np.array(stats.ttest_1samp(second, 0.0).confidence_interval())
        found = [
            two_way_bootstrap(
                first, second, patients=range(10), statistic=statistic, n_boot=1, seed=seed
            )
            for seed in range(20)
        ]
        assert any((one.low, one.high) == pytest.approx(tuple(expected)) for one in found)

    @pytest.mark.parametrize("nobody", [None, np.nan])
    def test_a_case_without_a_patient_is_refused(self, nobody):
        patients = ["a", "b", "c", "d", nobody]
        with pytest.raises(DataError, match=f"1 of 5 cases have no patient.*got {nobody}"):
            two_way_bootstrap(np.linspace(0.1, 0.5, 5), patients=patients)
        with pytest.raises(DataError, match="1 of 5 cases have no patient"):
            std_between_chips(np.ones((5, 2)), patients=patients)

    def test_few_patients_and_no_chips_give_the_t_interval(self):
        values = np.random.default_rng(0).normal(0.8, 0.1, 7)
        found = two_way_bootstrap(values, patients=range(7), level=0.9)
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
        assert (found.low, found.high) == pytest.approx(tuple(expected))
        assert (found.n_patients, found.n_chips, found.note) == (7, 0, "")

    def test_many_patients_give_the_bootstrap_t_interval(self):
        values = np.random.default_rng(0).gamma(0.5, 1.0, 30)
        found = two_way_bootstrap(values, patients=range(30), n_boot=20_000)
        draws = np.random.default_rng(1).choice(values, (20_000, 30))
        ratios = (draws.mean(axis=1) - values.mean()) / stats.sem(draws, axis=1)
        ends = values.mean() - np.percentile(ratios, [97.5, 2.5]) * stats.sem(values)
        assert (found.low, found.high) == pytest.approx(tuple(ends), rel=0.03)

    def test_the_squares_of_both_ways_add_up(self):
        values = simulated(np.random.default_rng(3), chips=6)[:7]
        found = two_way_bootstrap(values, patients=range(7))
        by_case, by_chip = (
            stats.ttest_1samp(values.mean(axis=axis), 0.0).confidence_interval() for axis in (1, 0)
        )
        expected = np.hypot(by_case.high - by_case.low, by_chip.high - by_chip.low)
        assert found.high - found.low == pytest.approx(expected)

    def test_it_ends_where_the_values_end(self):
        values = np.array([[0.99, 0.90], [0.98, 0.80], [1.0, 0.95]])
        free = two_way_bootstrap(values, patients="abc")
        found = two_way_bootstrap(values, patients="abc", bounds=(0.0, 1.0))
        assert free.high > 1.0
        assert (found.estimate, found.low, found.high) == (free.estimate, free.low, 1.0)

    def test_a_chip_that_never_ran_does_not_count(self):
        values = simulated(np.random.default_rng(0))
        failed = np.hstack([values, np.full((N_CASES, 1), np.nan)])
        assert two_way_bootstrap(failed, patients=range(N_CASES)) == two_way_bootstrap(
            values, patients=range(N_CASES)
        )

    def test_a_ratio_has_the_interval_of_the_delta_method(self):
        generator = np.random.default_rng(2)
        digital = generator.normal(0.85, 0.05, 7)
        analog = digital[:, None] * generator.normal(0.9, 0.02, (7, 3))
        found = two_way_bootstrap(analog, digital, patients=range(7), statistic=ratio)
        quotient = analog.mean() / digital.mean()
        of_cases = (analog.mean(axis=1) - quotient * digital) / digital.mean()
        of_chips = analog.mean(axis=0) / digital.mean()
        reach = [
            stats.t.ppf(0.975, len(part) - 1) * stats.sem(part) for part in (of_cases, of_chips)
        ]
        assert found.estimate - found.low == pytest.approx(np.hypot(*reach), rel=1e-6)

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
        parts = [stats.t.ppf(0.975, len(chip) - 1) * stats.sem(chip) for chip in chips]
        assert gain.high - gain.low == pytest.approx(2 * np.hypot(*parts), rel=0.1)

    def test_a_ratio_of_means_is_not_a_mean_of_ratios(self):
        digital, analog = np.array([1.0, 0.1]), np.array([[0.5, 0.5], [0.1, 0.1]])
        ratio = two_way_bootstrap(
            analog, digital, patients="ab", statistic=lambda a, d: a.mean() / d.mean()
        )
        assert ratio.estimate == pytest.approx(0.6 / 1.1)

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
        assert found.note == TOO_SMALL

    def test_many_cases_of_one_patient_give_no_interval(self):
        found = two_way_bootstrap(np.linspace(0, 1, 30), patients=["a"] * 30)
        assert np.isnan(found.low)
        assert found.note == TOO_SMALL

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


class TestStdBetweenChips:
    def test_it_is_that_of_the_means_over_cases(self):
        values = np.random.default_rng(0).normal(0.8, 0.1, (15, 7))
        found = std_between_chips(values, patients=range(15))
        assert found.estimate == pytest.approx(values.mean(axis=0).std(ddof=1))
        assert 0.0 < found.low < found.estimate < found.high

    def test_two_chips_have_the_interval_of_a_normal_variance(self):
        values = np.array([[0.7, 0.9], [0.6, 0.8]])
        found = std_between_chips(values, patients="ab", level=0.9)
        variance = np.var([0.65, 0.85], ddof=1)
        assert found.low == pytest.approx(np.sqrt(variance / stats.chi2.ppf(0.95, 1)))
        assert found.high == pytest.approx(np.sqrt(variance / stats.chi2.ppf(0.05, 1)))

    @pytest.mark.parametrize("sensitivity", [0.0, 0.7])
    def test_it_holds_the_truth_where_patients_feel_chips_unequally(self, sensitivity):
        generator = np.random.default_rng(0)
        hits = 0
        for _ in range(300):
            chips = generator.normal(0, 1.0, (1, 5))
            feels = 1.0 + sensitivity * (generator.exponential(1.0, (20, 1)) - 1.0)
            values = feels * chips + generator.normal(0, 0.5, (20, 5))
            found = std_between_chips(values, patients=range(20))
            hits += found.low <= np.sqrt(1.0 + 0.5**2 / 20) <= found.high
        assert hits / 300 >= 0.92

    def test_undefined_values_are_left_out(self):
        values = np.random.default_rng(0).normal(0.8, 0.1, (6, 5))
        values[2, 3] = values[:, 4] = np.nan
        found = std_between_chips(values, patients=range(6))
        assert found.n_chips == 4
        assert found.estimate == pytest.approx(np.nanmean(values[:, :4], axis=0).std(ddof=1))
        assert found.low < found.estimate < found.high

    @pytest.mark.parametrize("shape", [(1, 5), (6, 1)])
    def test_one_case_or_one_chip_gives_no_interval(self, shape):
        found = std_between_chips(
            np.random.default_rng(0).normal(size=shape), patients=range(shape[0])
        )
        assert np.isnan([found.low, found.high]).all()
        assert found.note == TOO_SMALL

    @pytest.mark.parametrize("seed", range(5))
    def test_a_patient_who_alone_feels_the_chips_does_not_make_it_unbounded(self, seed):
        values = np.random.default_rng(seed).normal(0.9, 1e-4, (20, 5))
        values[0, 0] = 0.0
        free = std_between_chips(values, patients=range(20))
        assert free.high <= free.estimate / np.sqrt(stats.chi2.ppf(0.025, 2) / 2) * (1 + 1e-12)
        bounded = std_between_chips(values, patients=range(20), bounds=(0.0, 0.2))
        assert (bounded.estimate, bounded.low) == (free.estimate, free.low)
        assert bounded.high == min(free.high, 0.1)

    def test_no_spread_of_a_share_is_above_a_half(self):
        found = std_between_chips(np.eye(2)[[0, 0]], patients="ab", bounds=(0.0, 1.0))
        assert found.estimate == pytest.approx(np.sqrt(0.5))
        assert found.low < found.estimate == found.high

    def test_equal_chips_do_not_spread(self):
        found = std_between_chips(np.full((4, 3), 0.5), patients=range(4))
        assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)

    def test_chips_that_differ_by_rounding_only_are_equal(self):
        values = np.where(np.arange(40)[:, None] < 37, 1 / 0.6, 0.1) + np.zeros(5)
        values[:, 1] = values[:, 1] * (1 + 2e-16)
        values[3, 2] += 2.3e-16
        found = std_between_chips(values, patients=range(40))
        assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


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

    def test_the_difference_is_that_of_the_intervals_where_patients_differ_in_their_cases(self):
        often = {f"a{scan}": -0.10 for scan in range(20)}
        once = {f"p{patient}": 0.20 for patient in range(5)}
        first = pd.Series({**often, **once})
        patients = {case: case[0] if case in often else case for case in first.index}
        found = paired_test(first, first * 0, patients=patients)
        interval = two_way_bootstrap(first.to_numpy(), patients=list(patients.values()))
        assert found.difference == pytest.approx(-1 / 25) == pytest.approx(interval.estimate)
        assert found.n_patients == 6
        sums = np.array([-2.0, *[0.2] * 5])
        flips = np.array(list(product([-1, 1], repeat=6))) @ sums
        assert found.p_value == pytest.approx(np.mean(abs(flips) >= abs(sums.sum()) - 1e-12))

    def test_a_case_without_a_patient_is_refused(self):
        with pytest.raises(DataError, match="'b' has no patient"):
            paired_test({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 0.5}, patients={"a": "x"})

    def test_one_pair_has_no_p_value(self):
        found = paired_test({"a": 0.9}, {"a": 0.8})
        assert np.isnan(found.p_value)
        assert found.note == TOO_SMALL

    def test_undefined_pairs_are_counted(self):
        first, second = {"a": 0.9, "b": np.nan, "c": 0.8}, {"a": 0.9, "b": 0.5, "c": 0.8}
        found = paired_test(first, second)
        assert (found.p_value, found.n_patients) == (1.0, 2)
        assert found.note == "1 undefined pairs left out"


class TestHolm:
    def test_it_agrees_with_p_adjust_of_r(self):
        # p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
        assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])

    def test_the_order_does_not_matter_and_one_is_the_most(self):
        assert holm([0.8, 0.01, 0.7]) == pytest.approx([1.0, 0.03, 1.0])

    def test_a_test_that_was_not_possible_is_not_counted(self):
        found = holm([0.02, np.nan, 0.03])
        assert np.isnan(found[1])
        assert found[::2] == pytest.approx([0.04, 0.04])


@pytest.mark.parametrize("module", [intervals, paired_tests, spread])
def test_the_examples_in_the_docstrings_hold(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
