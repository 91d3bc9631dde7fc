"""Surface metrics from masks to tables: the cases that the means include."""

import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.summaries.comparison import compare_models
from analogmed.evaluation.summaries.summary import over_time
from analogmed.foundation.errors import DataError
from analogmed.metrics.case import case_metrics

DAY_S = 86_400.0
DIAGONAL = float(np.hypot(16, 16))


def masks(n_spurious):
    """A tumour in four of eight images, segmented without an error, and so many spurious ones."""
    label = np.zeros((8, 16, 16), dtype=np.uint8)
    label[:4, 4:8, 4:8] = 1
    pred = label.copy()
    pred[4 : 4 + n_spurious, 2, 2] = 1
    return pred, label


def results(spurious_of_training):
    """Results table of networks whose eight cases have so many images with a spurious structure."""
    rows = []
    for training, spurious in spurious_of_training.items():
        for case, n_spurious in enumerate(spurious):
            metrics = case_metrics(
                *masks(n_spurious),
                n_classes=1,
                spacing=(1.0, 1.0),
                tolerance=1.0,
                unit="mm",
                metrics=("dice", "hd95", "nsd"),
            )
            place = {
                "task": "lgg", "model": "unet", "training": training, "case": f"case{case}",
                "patient": f"p{case}", "class": "tumour",
            }  # fmt: skip
            for row in metrics:
                value = {n: getattr(row, n) for n in ("metric", "value", "unit", "note")}
                digital = {"hardware": "digital", "chip": None, "time_s": np.nan, "read": None}
                rows.append(place | value | digital)
                for chip in range(3):
                    rows.append(
                        place
                        | value
                        | {"hardware": "pcm", "chip": chip, "time_s": DAY_S, "read": 0}
                    )
    return pd.DataFrame(rows).astype({"chip": "Int64", "read": "Int64"})


@pytest.mark.parametrize("metric", ["hd95", "nsd"])
def test_cases_with_a_spurious_image_stay_in_the_mean_with_their_bad_value(metric):
    spurious = (2, 2, 2, 2, 0, 0, 0, 0)
    expected = {
        "hd95": np.mean([n * DIAGONAL / (4 + n) for n in spurious]),
        "nsd": np.mean([4 / (4 + n) for n in spurious]),
    }[metric]
    curves = over_time(results({"digital": spurious}), metric, n_boot=50)
    assert curves["estimate"].to_list() == pytest.approx([expected, expected])
    assert set(curves["n_patients"]) == {8}


def test_networks_are_compared_on_the_same_cases_wherever_they_find_spurious_structures():
    table = results({"digital": (2, 0, 0, 0, 0, 0, 0, 0), "hwa": (0, 0, 0, 0, 4, 4, 0, 0)})
    row = compare_models(table, metric="hd95", n_boot=50).iloc[0]
    assert row["difference"] == pytest.approx((2 / 6 - 2 * 4 / 8) * DIAGONAL / 8)
    assert row["n_patients"] == 8


@pytest.mark.parametrize("missing", [None, np.nan, ""])
@pytest.mark.parametrize("column", ["patient", "case", "training"])
def test_a_row_without_a_name_is_refused_with_its_place(column, missing):
    table = results({"digital": (0,) * 8})
    table[column] = table[column].astype(object)
    table.iloc[[5, 7], table.columns.get_loc(column)] = missing
    message = rf"results table, row 5 .*, column '{column}': expected a name, got .* \(2 of "
    for compute in (over_time, compare_models):
        with pytest.raises(DataError, match=message):
            compute(table, metric="hd95", n_boot=50)
