import numpy as np
import pandas as pd
import pytest

from analogmed.errors import ConfigError, DataError
from analogmed.evaluation.failure_time import time_to_failure

TIMES_S = (0.0, 3_600.0, 86_400.0, 2_592_000.0)


def curve(low, *, metric="dice", estimate=None, high=None, model="unet"):
    low = np.array(low)
    estimate = low + 0.05 if estimate is None else estimate
    return pd.DataFrame(
        {
            "task": "lgg", "model": model, "training": "hwa", "hardware": "pcm",
            "time_s": TIMES_S, "metric": metric, "estimate": estimate, "low": low,
            "high": low + 0.1 if high is None else high,
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


def test_a_distance_fails_where_its_upper_bound_rises():
    high = np.array([3.0, 4.0, 6.0, 9.0])
    found = time_to_failure(
        curve(high - 2.0, metric="hd95", estimate=high - 1.0, high=high), 5.0
    ).iloc[0]
    assert (found["holds_until_s"], found["fails_at_s"]) == (3_600.0, 86_400.0)
    assert found["estimate_fails_at_s"] == 2_592_000.0


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
    with pytest.raises(DataError, match="lack low"):
        time_to_failure(curve([0.8] * 4).drop(columns="low"), 0.7)
    with pytest.raises(DataError, match="only a chip ages"):
        time_to_failure(curve([0.8] * 4).assign(time_s=np.nan), 0.7)
