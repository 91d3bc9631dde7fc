import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.studies.uncertainty.scores import Scores
from analogmed.evaluation.studies.uncertainty.summary import (
    compare_trainings,
    summarise_uncertainty,
)
from analogmed.tables.uncertainty import ADDRESS

CENTRES = (np.arange(15) + 0.5) / 15
WHERE = ("lgg", "unet", "hwa", "chips", 0.0)


def pooled(generator, n, *, shift, of_patients, of_bins):
    """Row of the pooled calibration error of patients whose bins are off by known amounts."""
    voxels = generator.multinomial(4000, np.full(15, 1 / 15), size=n).astype(float)
    off = shift + of_patients * generator.normal(size=(n, 1))
    off = off + of_bins * generator.normal(size=(n, 15))
    right = generator.binomial(voxels.astype(int), np.clip(CENTRES + off, 0.0, 1.0))
    counts = np.stack([voxels, voxels * CENTRES, right], axis=2)
    row = dict(zip(ADDRESS, WHERE, strict=True)) | {"region": "band", "metric": "dice"}
    row |= {"case": "c", "patient": "p", "value": 0.5}
    scores = Scores(15, 3, rows=[row])
    scores.reliability = {
        (WHERE, "band", f"p{patient}"): of_patient for patient, of_patient in enumerate(counts)
    }
    table = summarise_uncertainty(scores)
    return table[table["metric"] == "ece_pooled"].iloc[0], counts


@pytest.mark.exhaustive
@pytest.mark.parametrize("n", [7, 20])
@pytest.mark.parametrize(
    ("truth", "shift", "of_patients", "of_bins"),
    [(0.0, 0.0, 0.02, 0.0), (0.0, 0.0, 0.0, 0.02), (0.02, -0.02, 0.01, 0.01)],
)
def test_the_interval_of_the_pooled_calibration_error_holds_the_truth(
    n, truth, shift, of_patients, of_bins
):
    """Patients miscalibrated one by one and calibrated together, and miscalibrated together.

    Shares are cut at 0 and 1, so that bins at the ends are off by up to 0.001 more.
    """
    generator = np.random.default_rng(n)
    rows = [
        pooled(generator, n, shift=shift, of_patients=of_patients, of_bins=of_bins)[0]
        for _ in range(60)
    ]
    held = [row["low"] <= truth + 0.001 and row["high"] >= truth - 0.001 for row in rows]
    assert np.mean(held) >= 0.93
    assert all(0.0 <= row["low"] <= row["estimate"] <= row["high"] <= 1.0 for row in rows)


def test_the_pooled_calibration_error_is_that_of_the_definition_and_within_its_interval():
    row, counts = pooled(np.random.default_rng(1), 7, shift=0.0, of_patients=0.02, of_bins=0.0)
    voxels, confidence, right = counts.sum(axis=0).T
    assert row["estimate"] == pytest.approx(np.abs(confidence - right).sum() / voxels.sum())
    assert row["low"] == 0.0
    assert row["estimate"] < row["high"] < 0.1
    assert row["n_patients"] == 7


def test_one_patient_has_no_interval_of_the_pooled_calibration_error():
    row, _ = pooled(np.random.default_rng(1), 1, shift=0.1, of_patients=0.0, of_bins=0.0)
    assert np.isfinite(row["estimate"])
    assert np.isnan([row["low"], row["high"]]).all()


def test_the_draws_of_the_summary_are_those_of_seed_0():
    table = [{**dict(zip(ADDRESS, WHERE, strict=True)), "region": "band", "metric": "dice",
              "case": f"c{i}", "patient": f"p{i}", "value": i / 9} for i in range(10)]  # fmt: skip
    default, given, other = (
        summarise_uncertainty(Scores(15, 3, rows=table), **seed)
        for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    pd.testing.assert_frame_equal(default, given)
    assert default["low"].iloc[0] != other["low"].iloc[0]


def test_p_values_are_corrected_for_the_models_that_are_compared_in_the_same_way():
    """Six patients have p = 2 / 2**6 at the least; Holm doubles the smaller of two."""
    draws = np.random.default_rng(0)
    rows = [
        {"task": "lgg", "model": model, "training": training, "source": "chips", "time_s": time_s,
         "region": "band", "metric": metric, "case": f"case{case}", "patient": f"p{case}",
         "value": draws.normal(gain * (training == "hwa"), 0.01)}
        for model, gain in (("unet", 1.0), ("unetpp", 0.0))
        for training in ("digital", "hwa")
        for time_s in (np.nan, 0.0)
        for metric in ("ece", "nll")
        for case in range(6)
    ]  # fmt: skip
    found = compare_trainings(pd.DataFrame(rows)).set_index(["time_s", "metric", "model"])
    assert len(found) == 8
    for _, pair in found.groupby(["time_s", "metric"], dropna=False):
        plain = pair["p_value"].droplevel(["time_s", "metric"])
        adjusted = pair["p_holm"].droplevel(["time_s", "metric"])
        assert plain["unet"] == 2 / 2**6 < plain["unetpp"]
        assert adjusted["unet"] == 2 * plain["unet"]
        assert adjusted["unetpp"] == max(plain["unetpp"], adjusted["unet"])


def test_without_a_model_in_both_trainings_the_comparison_is_empty_but_has_its_columns():
    row = {
        "task": "lgg", "model": "unet", "training": "hwa", "source": "chips", "time_s": 0.0,
        "region": "band", "metric": "ece", "case": "a", "patient": "p", "value": 0.1,
    }  # fmt: skip
    found = compare_trainings(pd.DataFrame([row]))
    assert found.empty
    assert list(found.columns[-4:]) == ["p_value", "p_holm", "n_patients", "level"]
