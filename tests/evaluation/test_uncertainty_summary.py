import numpy as np
import pandas as pd

from analogmed.evaluation.uncertainty_summary import compare_trainings


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
