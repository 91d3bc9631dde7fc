import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analogmed.evaluation.statistics.intervals import two_way_bootstrap
from analogmed.evaluation.statistics.planning import (
    VarianceComponents,
    expected_width,
    plan_size,
    variance_components,
)
from analogmed.evaluation.summaries.sequential import pilot_components
from analogmed.foundation.errors import ConfigError, DataError, ShapeError

TRUTH = VarianceComponents(
    patient=0.10, chip=0.03, residual=0.04, read=0.0, n_patients=20, n_chips=10
)


def simulated(generator, n, m, truth=TRUTH):
    patients = truth.patient * generator.normal(size=(n, 1))
    chips = truth.chip * generator.normal(size=(1, m))
    return 0.8 + patients + chips + truth.residual * generator.normal(size=(n, m))


def table_of(cells, reads):
    """Long table of one network: cells (cases, chips) plus an offset for each read."""
    rows = [
        {
            "task": "lgg", "model": "unet", "training": "hwa", "hardware": "pcm", "chip": chip,
            "time_s": 86_400.0, "read": read, "case": f"case{case}", "patient": f"patient{case}",
            "class": "tumour", "metric": "dice", "value": value + offset, "unit": "1", "note": "",
        }
        for (case, chip), value in np.ndenumerate(cells)
        for read, offset in enumerate(reads)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_components_of_a_large_pilot_are_those_it_was_drawn_with():
    found = variance_components(simulated(np.random.default_rng(0), 400, 300), patients=range(400))
    for name in ("patient", "chip", "residual"):
        assert getattr(found, name) == pytest.approx(getattr(TRUTH, name), rel=0.1)


def test_small_pilots_are_right_on_average():
    generator = np.random.default_rng(1)
    pilots = [
        variance_components(simulated(generator, 12, 6), patients=range(12)) for _ in range(400)
    ]
    assert np.mean([p.patient**2 for p in pilots]) == pytest.approx(TRUTH.patient**2, rel=0.06)
    assert np.mean([p.residual**2 for p in pilots]) == pytest.approx(TRUTH.residual**2, rel=0.03)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("cases", "chips"),
    [(7, 5), pytest.param(20, 3, marks=SLOW), pytest.param(20, 10, marks=SLOW)],
)
def test_the_expected_width_is_that_of_simulated_evaluations(cases, chips):
    generator = np.random.default_rng(2)
    squares = []
    for _ in range(200):
        values = simulated(generator, cases, chips)
        found = two_way_bootstrap(values, patients=range(cases), n_boot=300)
        squares.append((found.high - found.low) ** 2)
    expected = expected_width(TRUTH, cases, chips)
    assert np.sqrt(np.mean(squares)) == pytest.approx(expected, rel=0.08)


def test_the_expected_width_is_the_closed_form_of_students_t():
    patients_alone = VarianceComponents(0.1, 0.0, 0.0, 0.0, 7, 5)
    chips_alone = VarianceComponents(0.0, 0.1, 0.0, 0.0, 7, 5)
    assert expected_width(patients_alone, 7, 5) == pytest.approx(
        2 * stats.t.ppf(0.975, 6) * 0.1 / np.sqrt(7)
    )
    assert expected_width(chips_alone, 7, 5) == pytest.approx(
        2 * stats.t.ppf(0.975, 4) * 0.1 / np.sqrt(5)
    )


@pytest.mark.parametrize("cases_of", [[1] * 7, [4] * 7, [1, 1, 2, 3, 1, 9, 20]])
def test_a_plan_of_the_size_of_its_pilot_has_the_width_of_its_interval(cases_of):
    patients = np.repeat(range(7), cases_of)
    cells = simulated(np.random.default_rng(5), 7, 5)[patients]
    cells += 0.05 * np.random.default_rng(6).normal(size=cells.shape)
    found = two_way_bootstrap(cells, patients=patients)
    components = variance_components(cells, patients=patients)
    assert components.patient > 0.0
    assert components.chip > 0.0
    assert found.high - found.low == pytest.approx(expected_width(components, 7, 5))


def test_more_reads_help_only_against_read_noise():
    noisy = VarianceComponents(0.0, 0.0, 0.0, 0.1, 10, 10)
    assert expected_width(noisy, 10, 10, reads=4) == pytest.approx(
        expected_width(noisy, 10, 10) / 2
    )
    assert expected_width(TRUTH, 10, 10, reads=4) == expected_width(TRUTH, 10, 10)


def test_the_cheapest_plan_is_wide_enough_and_nothing_cheaper_is():
    plan = plan_size(TRUTH, 0.08, cost_per_chip=50.0, cost_per_read=1.0)
    assert (plan["enough"] == (plan["width"] <= 0.08)).all()
    cheapest = plan[plan["cheapest"]]
    assert len(cheapest) >= 1
    assert cheapest["enough"].all()
    assert not (plan["enough"] & (plan["cost"] < cheapest["cost"].min())).any()
    row = plan[(plan["cases"] == 20) & (plan["chips"] == 10)].iloc[0]
    assert row["cost"] == 10 * (50.0 + 20)


def test_a_width_out_of_reach_has_no_cheapest_plan():
    assert not plan_size(TRUTH, 1e-6)["cheapest"].any()


def test_reads_of_a_pilot_table_are_told_from_the_residual():
    cells = simulated(np.random.default_rng(3), 8, 4)
    found = pilot_components(table_of(cells, reads=(-0.01, 0.01))).iloc[0]
    assert found["read"] == pytest.approx(np.std([-0.01, 0.01], ddof=1))
    whole = variance_components(cells, patients=range(8))
    assert found["patient"] == pytest.approx(whole.patient)
    assert found["residual"] ** 2 == pytest.approx(whole.residual**2 - found["read"] ** 2 / 2)


@pytest.mark.parametrize(
    "cases_of",
    [
        pytest.param([1] * 12, marks=SLOW),
        pytest.param([4] * 12, marks=SLOW),
        [1] * 6 + [4] * 3 + [9] * 3,
    ],
)
def test_reads_of_several_cases_of_a_patient_average_out(cases_of):
    """Known components; the reads of a case vary by 0.06, those of k cases by 0.06 / sqrt(k)."""
    truth = VarianceComponents(0.10, 0.03, 0.02, 0.06, 12, 8)
    generator = np.random.default_rng(7)
    pilots = [pilot_components(pilot_of(generator, truth, cases_of)).iloc[0] for _ in range(8)]
    share = np.array(cases_of) / sum(cases_of)
    of_mean = 12 * share @ (share * 0.06**2 / cases_of)
    of_patients = 12 * share @ share
    squares = np.mean([pilot[["residual", "read"]].to_numpy(float) ** 2 for pilot in pilots], 0)
    assert squares[1] == pytest.approx(of_mean, rel=0.06)
    assert squares[0] == pytest.approx(of_patients * 0.02**2, rel=0.25)


def pilot_of(generator, truth, cases_of, n_chips=8, n_reads=6):
    """Long table of a pilot whose patients have several cases with the same expected value."""
    patients = np.repeat(range(len(cases_of)), cases_of)
    cells = simulated(generator, len(cases_of), n_chips, truth)[patients]
    noise = truth.read * generator.normal(size=(n_reads, *cells.shape))
    reads = [table_of(cells + noise[read], (0.0,)).assign(read=read) for read in range(n_reads)]
    table = pd.concat(reads)
    named = {f"case{case}": f"patient{patient}" for case, patient in enumerate(patients)}
    return table.assign(patient=table["case"].map(named))


def test_a_chip_that_failed_and_a_case_with_a_gap_are_left_out():
    values = simulated(np.random.default_rng(4), 6, 4)
    gaps = np.hstack([values, np.full((6, 1), np.nan)])
    gaps[5, 0] = np.nan
    found = variance_components(gaps, patients=range(6))
    assert found == variance_components(values[:5], patients=range(5))


@pytest.mark.slow
def test_a_pilot_that_cannot_tell_is_refused():
    with pytest.raises(DataError, match=r"at least 2 patients and 2 chips.*5 and 1"):
        variance_components(np.ones((5, 1)), patients=range(5))
    with pytest.raises(ShapeError, match=r"\(3, chips\)"):
        variance_components(np.ones(3), patients="abc")
    with pytest.raises(DataError, match="no dice at 1 s"):
        pilot_components(table_of(np.ones((3, 3)), reads=(0.0,)), time_s=1.0)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="width: expected a finite number above 0"):
        plan_size(TRUTH, 0.0)
    with pytest.raises(ConfigError, match="chips must be 2 or more, got 1"):
        plan_size(TRUTH, 0.1, chips=(1, 2))
