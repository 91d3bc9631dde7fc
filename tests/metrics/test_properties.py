"""No interval in any table exceeds the range of its metric."""

import doctest
from pathlib import Path

import numpy as np
import pandas as pd

from analogmed.evaluation.studies.mitigation.compute import COSTS
from analogmed.evaluation.studies.mitigation.study import MitigationResult, _wide
from analogmed.evaluation.studies.mitigation.values import METRICS as OF_MITIGATION
from analogmed.evaluation.studies.sensitivity.ranking import rank
from analogmed.evaluation.studies.uncertainty.conformal_table import VALUES, summarise_conformal
from analogmed.evaluation.studies.uncertainty.scores import Scores
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig
from analogmed.evaluation.studies.uncertainty.summary import (
    compare_trainings,
    summarise_uncertainty,
)
from analogmed.metrics import properties as metric_properties
from analogmed.metrics.properties import bounds_of, difference_bounds
from analogmed.metrics.registry import METRICS
from analogmed.metrics.registry import metric as metric_of
from analogmed.tables.sensitivity import to_settings_table

ONE_ODD = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95])
"""Of seven patients: Student's t of them ends at -0.20 and 0.47."""
NETWORK = {"task": "lgg", "model": "unet", "training": "hwa"}


def per_patient(values, **where):
    return [
        {**where, "case": f"case{i}", "patient": f"p{i}", "value": value}
        for i, value in enumerate(values)
    ]


def assert_within(rows, name, metrics):
    lows, highs = (rows[f"{name}_{end}".lstrip("_")].to_numpy(float) for end in ("low", "high"))
    ends = np.array([bounds_of(metric) for metric in metrics])
    assert np.isfinite(lows).all()
    assert (lows >= ends[:, 0]).all()
    assert (highs <= ends[:, 1]).all()


def test_uncertainty():
    where = {**NETWORK, "source": "chips", "time_s": 0.0, "region": "image"}
    values = {"dice": 1.0 - ONE_ODD, "ece": ONE_ODD, "nll": ONE_ODD, "mean_entropy": ONE_ODD,
              "entropy_per_foreground": ONE_ODD}  # fmt: skip
    rows = [row for m, v in values.items() for row in per_patient(v, **where, metric=m)]
    summary = summarise_uncertainty(Scores(15, 3, rows=rows))
    summary = summary[summary["metric"].isin(values)]
    assert_within(summary, "", summary["metric"])
    dice = summary.set_index("metric").loc["dice"]
    assert dice["low"] > 0.4


def test_comparison_of_trainings():
    where = {**NETWORK, "source": "chips", "time_s": 0.0, "region": "image", "metric": "dice"}
    signs = np.array([1.0, 1.0, 1.0, -1.0])
    rows = [
        *per_patient((1.0 + signs) / 2, **where),
        *per_patient((1.0 - signs) / 2, **{**where, "training": "digital"}),
    ]
    row = compare_trainings(pd.DataFrame(rows)).iloc[0]
    assert -1.0 <= row["difference_low"] < row["difference"] == 0.5 < row["difference_high"] <= 1.0


def test_mitigation():
    rows = [
        row | {"chip": chip, "read": 0}
        for metric in OF_MITIGATION
        for option, values in (("none", ONE_ODD), ("drift_compensation", 1.0 - ONE_ODD))
        for chip in range(3)
        for row in per_patient(values, **NETWORK, time_s=0.0, option=option, metric=metric)
    ]
    costs = [{**NETWORK, "option": o, **dict.fromkeys(COSTS, 0)} for o in ("none", "batchnorm")]
    found = MitigationResult(
        MitigationConfig(out=Path("x")), pd.DataFrame(rows), pd.DataFrame(costs)
    )
    summary = found.summary()
    assert_within(summary, "value", summary["metric"])
    gained = summary[summary["option"] == "drift_compensation"]
    assert (gained["gain_high"] <= [difference_bounds(m)[1] for m in gained["metric"]]).all()


def test_the_table_of_a_mitigation_grows_with_the_cases_and_not_with_their_square():
    rows = pd.DataFrame(per_patient(np.linspace(0, 1, 40)))
    rows = pd.concat([rows.assign(chip=chip, read=0) for chip in (0, 1)])
    wide = _wide(rows)
    assert wide.shape == (40, 2)
    np.testing.assert_array_equal(wide.loc[[("case7", "p7")], 1], [rows["value"].iloc[7]])


def test_conformal_masks():
    where = {**NETWORK, "calibrated": "each", "time_s": 0.0, "class": "tumour",
             "threshold": 0.5, "n_units": 9, "trivial": False}  # fmt: skip
    rows = [
        {**where, "chip": chip, "patient": f"p{i}", **dict.fromkeys(VALUES, value)}
        for chip in range(2)
        for i, value in enumerate(ONE_ODD)
    ]
    found = summarise_conformal(pd.DataFrame(rows), 0.1)
    for value in VALUES:
        assert_within(found, value, [value])


def test_sensitivity():
    """Two patients, one lost: Student's t with one degree of freedom goes far beyond 1."""
    place = {**NETWORK, "read": 0, "class": "tumour", "metric": "dice", "unit": "1", "note": ""}
    rows = [
        row | {"chip": chip, "setting": setting, "subject": subject, "hardware": "pcm"}
        for setting, subject, values in (
            ("digital", "", (1.0, 1.0)),
            ("all_analog", "", (1.0, 0.0)),
            ("only_analog", "head", (1.0, 0.0)),
        )
        for chip in ([None] if setting == "digital" else range(2))
        for row in per_patient(values, **place, time_s=np.nan if setting == "digital" else 0.0)
    ]
    table = to_settings_table(rows)
    distances = rank(table.assign(metric="hd95"), metric="hd95")
    assert distances.loc[distances["setting"] == "all_analog", "drop"].item() == -0.5
    ranking = rank(table)
    assert (ranking[["drop_low", "effect_low"]] >= -1.0).all(axis=None)
    assert (ranking[["drop_high", "effect_high"]] <= 1.0).all(axis=None)


def test_every_metric_of_the_tables_has_bounds():
    for metric in (*METRICS, *OF_MITIGATION, *VALUES):
        assert np.isfinite(bounds_of(metric)[0]), metric
    assert bounds_of("not one of ours") == (-np.inf, np.inf)


def test_a_distance_has_the_unit_of_the_spacing():
    assert [metric_of(name).unit_for("mm") for name in ("dice", "hd95", "nsd")] == ["1", "mm", "1"]


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(metric_properties).failed == 0
