import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.summaries.failure_time import time_to_failure
from analogmed.evaluation.summaries.summary import over_time
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.metrics.registry import METRICS

TIMES_S = (0.0, 3_600.0, 86_400.0, 2_592_000.0)


def curve(worst, *, metric="dice", digital=0.9, model="unet", better=1.0):
    """Curves of a reference and its drop, whose confidence limits are 0.05 from the estimate."""
    worst = np.array(worst)
    estimate = worst + better * 0.05
    drop = better * (digital - estimate)
    return pd.DataFrame(
        {
            "task": "lgg", "model": model, "training": "hwa", "hardware": "pcm",
            "time_s": TIMES_S, "metric": metric, "estimate": estimate,
            "low": estimate - 0.3, "high": estimate + 0.3, "drift_drop": drop,
            "drift_drop_low": drop - 0.05, "drift_drop_high": drop + 0.05,
        }
    )  # fmt: skip


def test_it_holds_until_the_last_time_before_the_bound_falls():
    found = time_to_failure(curve([0.80, 0.78, 0.72, 0.60]), 0.75).iloc[0]
    assert (found["holds_until_s"], found["fails_at_s"]) == (3_600.0, 86_400.0)
    assert found["reprogram_every_s"] == 3_600.0
    assert found["estimate_fails_at_s"] == 2_592_000.0
    assert not found["censored"]
    assert found["note"] == ""


def test_a_chip_that_never_fails_is_censored_at_the_last_time():
    found = time_to_failure(curve([0.80, 0.78, 0.77, 0.76]), 0.75).iloc[0]
    assert found["censored"]
    assert np.isnan(found["fails_at_s"])
    assert found["reprogram_every_s"] == found["holds_until_s"] == 2_592_000.0
    assert found["note"] == "not within the sweep"


def test_a_chip_that_fails_at_once_has_no_interval_of_programming():
    found = time_to_failure(curve([0.70, 0.78, 0.77, 0.76]), 0.75).iloc[0]
    assert found["fails_at_s"] == 0.0
    assert np.isnan([found["holds_until_s"], found["reprogram_every_s"]]).all()
    assert found["note"] == "not good enough at the first time"


def test_a_later_recovery_does_not_count():
    found = time_to_failure(curve([0.80, 0.70, 0.80, 0.80]), 0.75).iloc[0]
    assert (found["holds_until_s"], found["fails_at_s"]) == (0.0, 3_600.0)
    assert np.isnan(found["reprogram_every_s"])


def test_a_time_without_an_interval_is_not_known_to_hold():
    found = time_to_failure(curve([0.80, 0.79, np.nan, 0.78]), 0.75).iloc[0]
    assert found["holds_until_s"] == 3_600.0
    assert found["note"] == "no interval at 86400 s"


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_fails_in_its_own_direction(metric):
    """A distance that falls is not a failure; a share that falls is. Dice 0.74 is below 0.75."""
    better = -1.0 if metric == "hd95" else 1.0
    worst = 0.75 + better * np.array([0.05, 0.02, -0.01, -0.10])
    found = time_to_failure(curve(worst, metric=metric, better=better), 0.75).iloc[0]
    assert (found["holds_until_s"], found["fails_at_s"]) == (3_600.0, 86_400.0)
    assert found["estimate_fails_at_s"] == 2_592_000.0


def test_a_distance_fails_where_the_upper_bound_of_its_loss_rises():
    worst = np.array([3.0, 4.0, 5.02, 9.0])
    found = time_to_failure(curve(worst, metric="hd95", better=-1.0, digital=2.0), 5.0).iloc[0]
    assert (found["holds_until_s"], found["fails_at_s"]) == (3_600.0, 86_400.0)
    assert found["estimate_fails_at_s"] == 2_592_000.0


def test_patients_that_differ_do_not_make_a_network_fail_that_keeps_its_dice():
    """Dice of 0.6 to 1.0, and 0.008 of it lost on each chip: the spread of patients is shared."""
    rows = []
    for patient, digital in enumerate(np.linspace(0.6, 1.0, 10)):
        row = {
            "task": "lgg", "model": "unet", "training": "digital", "case": f"c{patient}",
            "patient": f"p{patient}", "class": "tumour", "metric": "dice", "unit": "1", "note": "",
        }  # fmt: skip
        nowhere = {"hardware": "digital", "chip": None, "time_s": np.nan, "read": None}
        rows.append(row | nowhere | {"value": digital})
        for chip in range(5):
            for time_s, kept in zip(TIMES_S, (0.992, 0.992, 0.99, 0.90), strict=True):
                place = {"hardware": "pcm", "chip": chip, "time_s": time_s, "read": 0}
                rows.append(row | place | {"value": kept * digital})
    table = pd.DataFrame(rows).astype({"chip": "Int64", "read": "Int64"})
    curves = over_time(table, n_boot=200)
    limit = 0.95 * 0.8
    assert (curves.loc[curves["time_s"] == 0.0, "low"] < limit).all()
    found = time_to_failure(curves, limit).iloc[0]
    assert (found["holds_until_s"], found["fails_at_s"]) == (86_400.0, 2_592_000.0)
    assert found["digital"] == pytest.approx(0.8)


def test_a_network_whose_digital_run_is_below_the_limit_is_noted():
    found = time_to_failure(curve([0.80, 0.78, 0.72, 0.60], digital=0.85), 0.86).iloc[0]
    assert found["note"] == "not good enough digitally"
    assert np.isnan(found["holds_until_s"])


def test_without_a_digital_run_no_time_is_known_to_hold():
    curves = curve([0.80, 0.78, 0.72, 0.60])
    unknown = [name for name in curves if name.startswith("drift_drop")]
    found = time_to_failure(curves.assign(**dict.fromkeys(unknown, np.nan)), 0.5).iloc[0]
    assert found["note"] == "no interval at 0 s"
    assert not found["censored"]


def test_the_order_of_the_rows_does_not_matter_and_digital_runs_do_not_age():
    curves = pd.concat(
        [
            curve([0.80, 0.78, 0.72, 0.60]),
            curve([0.9, 0.9, 0.9, 0.9], model="unetpp"),
            curve([0.1] * 4).assign(hardware="digital", time_s=np.nan),
        ]
    )
    found = time_to_failure(curves.sample(frac=1.0, random_state=0), 0.75).set_index("model")
    assert len(found) == 2
    assert found.loc["unet", "fails_at_s"] == 86_400.0
    assert found.loc["unetpp", "censored"]


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ConfigError, match="finite"):
        time_to_failure(curve([0.8] * 4), np.nan)
    with pytest.raises(DataError, match="lacks the columns drift_drop_high; pass"):
        time_to_failure(curve([0.8] * 4).drop(columns="drift_drop_high"), 0.7)
    with pytest.raises(DataError, match="found only digital rows"):
        time_to_failure(curve([0.8] * 4).assign(time_s=np.nan), 0.7)
