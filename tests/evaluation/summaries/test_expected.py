"""Digital scores against those that checkpoints expect."""

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from analogmed.data import Case, Task
from analogmed.evaluation.summaries.expected import warn_on_unexpected_score

TASK = Task(
    "knees", Path(), 3, ("T1",), ("a", "b"), (8, 8, 8), "mm", (), (),
    tuple(Case(name, name, (), ()) for name in "pq"), read=lambda case: None, axes="zyx",
)  # fmt: skip


def rows(metric, *values):
    """Rows of two classes of each case; the second class of the first case is absent."""
    return pd.DataFrame(
        [
            {"metric": metric, "case": case, "class": name, "value": value, "note": note}
            for (case, name, note), value in zip(
                [("p", "a", ""), ("p", "b", "spurious structure"), ("q", "a", ""), ("q", "b", "")],
                values,
                strict=True,
            )
        ]
    )


def compare(table, expected, task=TASK):
    checkpoint = SimpleNamespace(
        path=Path("net.safetensors"), info=SimpleNamespace(expected_score=expected)
    )
    warn_on_unexpected_score(table, checkpoint, task)


DICE = rows("dice", 0.9, 0.0, 0.7, 0.7)  # 0.8 over cases


@pytest.mark.parametrize("expected", [None, 0.8, 0.76, 0.84])
def test_a_score_near_the_expected_one_is_not_reported(expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(DICE, expected)


@pytest.mark.parametrize("expected", [0.74, 0.86])
def test_a_score_far_from_the_expected_one_is_reported_with_causes(expected):
    with pytest.warns(
        UserWarning, match=rf"digital Dice on the 2 .* 0\.800; expected about {expected}"
    ) as found:
        compare(DICE, expected)
    text = str(found[0].message)
    for cause in ("task.options.axes", "zyx", "modality", "voxel sizes", "(T1)", "(a, b)"):
        assert cause in text


def test_axes_are_no_cause_for_separate_images():
    with pytest.warns(UserWarning) as found:
        compare(DICE, 0.5, replace(TASK, axes=""))
    assert "axes" not in str(found[0].message)


def test_a_metric_without_an_upper_bound_is_compared_by_its_size():
    far, table = replace(TASK, primary_metric="hd95"), rows("hd95", 10.0, 50.0, 10.0, 10.0)
    compare(table, 10.4, far)
    with pytest.warns(UserWarning, match="HD95"):
        compare(table, 11.0, far)
    compare(rows("hd95", 0.0, 0.0, 0.0, 0.04), 0.0, far)


def test_an_expected_score_that_cannot_be_is_named_as_the_cause():
    with pytest.warns(UserWarning, match="expected_score is 80, but a Dice is from 0 to 1"):
        compare(DICE, 80.0)


def test_a_failed_run_is_not_compared():
    compare(rows("dice", *[float("nan")] * 4), 0.8)
