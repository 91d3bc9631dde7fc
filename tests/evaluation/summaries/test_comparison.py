import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.statistics.intervals import TOO_SMALL
from analogmed.evaluation.statistics.paired_tests import holm
from analogmed.evaluation.summaries.comparison import compare_models
from analogmed.evaluation.summaries.summary import summarise
from analogmed.foundation.errors import DataError

DAY_S = 86_400.0
MEANS = {("unet", "digital"): 0.70, ("unet", "hwa"): 0.80, ("unetpp", "hwa"): 0.80}


def results(*, networks=MEANS, patients=12, chips=4, seed=0):
    generator = np.random.default_rng(seed)
    case_effect = generator.normal(0, 0.05, patients)
    rows = []
    for (model, training), mean in networks.items():
        chip_effect = generator.normal(0, 0.01, chips)
        own = generator.normal(0, 0.01, patients)
        for case in range(patients):
            for chip in range(chips):
                value = mean + case_effect[case] + own[case] + chip_effect[chip]
                rows.append(
                    {
                        "task": "lgg", "model": model, "training": training, "hardware": "pcm",
                        "chip": chip, "time_s": DAY_S, "read": 0, "case": f"case{case:02}",
                        "patient": f"patient{case:02}", "class": "tumour", "metric": "dice",
                        "value": value, "unit": "1", "note": "",
                    }
                )  # fmt: skip
    return pd.DataFrame(rows).astype({"chip": "Int64", "read": "Int64"})


def test_every_pair_is_compared_once():
    found = compare_models(results(), n_boot=200)
    pairs = found[["model", "training", "other_model", "other_training"]].to_numpy().tolist()
    assert pairs == [
        ["unet", "digital", "unet", "hwa"],
        ["unet", "digital", "unetpp", "hwa"],
        ["unet", "hwa", "unetpp", "hwa"],
    ]


def test_a_difference_is_found_and_no_difference_is_not():
    found = compare_models(results(), n_boot=500)
    assert found["difference"].iloc[0] == pytest.approx(-0.10, abs=0.02)
    assert found["high"].iloc[0] < 0.0
    assert found["p_holm"].iloc[0] < 0.01
    assert found["low"].iloc[2] < 0.0 < found["high"].iloc[2]


def test_p_values_are_adjusted_over_the_pairs_of_one_task_and_hardware():
    table = results()
    both = pd.concat([table, table.assign(hardware="reram")])
    found = compare_models(both, n_boot=50)
    for _, rows in found.groupby("hardware"):
        assert rows["p_holm"].tolist() == pytest.approx(holm(rows["p_value"].tolist()))


def test_the_gain_is_that_of_the_summary():
    table = results()
    pair = compare_models(table, n_boot=3000).iloc[0]
    summary = summarise(table, n_boot=3000)
    gain = summary[(summary["model"] == "unet") & (summary["training"] == "hwa")].iloc[0]
    assert -pair["difference"] == pytest.approx(gain["gain_1d"])
    assert (-pair["high"], -pair["low"]) == pytest.approx(
        (gain["gain_1d_low"], gain["gain_1d_high"]), abs=2e-3
    )


def test_networks_may_have_other_numbers_of_chips():
    table = results()
    fewer = (table["model"] == "unetpp") & (table["chip"] > 1)
    found = compare_models(table[~fewer], n_boot=100)
    assert found["n_chips"].tolist() == [4, 2, 2]
    assert found["low"].notna().all()


def test_one_chip_gives_a_difference_without_an_interval():
    found = compare_models(results(chips=1), n_boot=50).iloc[0]
    assert np.isnan(found["low"])
    assert TOO_SMALL in found["note"]


def test_equal_networks_have_p_one():
    table = results(networks={("unet", "digital"): 0.7})
    twin = table.assign(training="hwa")
    found = compare_models(pd.concat([table, twin]), n_boot=50).iloc[0]
    assert (found["difference"], found["p_value"], found["p_holm"]) == (0.0, 1.0, 1.0)


def test_networks_on_different_cases_are_refused():
    table = results()
    missing = (table["model"] == "unetpp") & (table["case"] == "case03")
    with pytest.raises(DataError, match="case03"):
        compare_models(table[~missing])


def test_a_time_or_metric_that_was_not_measured_is_refused():
    with pytest.raises(DataError, match="unet, digital on pcm has no dice at 1 s; it has: 86400"):
        compare_models(results(), time_s=1.0)
    with pytest.raises(DataError, match="no hd95"):
        compare_models(results(), metric="hd95")
