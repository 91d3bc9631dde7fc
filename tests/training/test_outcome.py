import logging
from dataclasses import replace

import pandas as pd
import pytest

from analogmed.foundation.time_constants import DAY_S, MONTH_S
from analogmed.metrics.overlap import DICE
from analogmed.metrics.surface import HD95
from analogmed.training import load_checkpoint
from analogmed.training.distributed import Ranks
from analogmed.training.history import EpochRecord, History
from analogmed.training.outcome import OUTCOME, early_state, large_gap, outcome_of, report_outcome
from analogmed.training.preparation import set_up
from analogmed.training.settings import TrainConfig


@pytest.fixture
def config(tiny_task, tiny_hwa, tiny_digital):
    """Settings of the run whose network is ``tiny_hwa``."""
    return TrainConfig(
        task=tiny_task,
        training="hwa",
        init=tiny_digital,
        epochs=2,
        validation_chips=1,
        out=tiny_hwa.parent,
    )


def test_a_hardware_aware_run_ends_with_its_scores_side_by_side(config):
    table = pd.read_csv(config.folder / OUTCOME)
    assert table["run"].tolist() == ["digital", "chip", "chip", "chip"]
    assert table["time_s"].fillna(-1).tolist() == [-1, 0, DAY_S, MONTH_S]
    score = load_checkpoint(config.folder).info.score  # of its validation, after a day
    assert table["dice"][2] == pytest.approx(score)


def test_the_scores_are_read_in_one_line_and_an_early_state_is_a_warning(config, caplog, tmp_path):
    before = (config.folder / OUTCOME).read_bytes()
    records = (EpochRecord(n, n, 0.1, 0.1, dice, 1.0) for n, dice in enumerate([0.5, 0.4, 0.3]))
    with caplog.at_level(logging.WARNING, "analogmed.training"):
        report_outcome(set_up(config, Ranks()), History(tuple(records)))
    digital, t0, day, month = pd.read_csv(config.folder / OUTCOME)["dice"]
    (warned,) = (record.getMessage() for record in caplog.records)  # though scores lie apart
    assert "keeps the network that it started from, because" in warned
    assert large_gap({"digital": digital, "t0": t0, "day": day, "month": month}, DICE)
    line = outcome_of(config.folder)
    assert line == f"digital {digital:.3f}, t0 {t0:.3f}, 1 day {day:.3f}, 1 month {month:.3f}"
    assert (config.folder / OUTCOME).read_bytes() == before


def test_scores_that_lie_apart_are_a_warning_with_the_remedy():
    assert large_gap({"digital": 0.80, "t0": 0.83, "1 day": 0.84, "1 month": 0.84}, DICE) is None
    collapsed = large_gap({"digital": 0.34, "t0": 0.78, "1 day": 0.81, "1 month": 0.82}, DICE)
    assert "lowest digital. Set noise.norms: late" in collapsed
    assert "difference of 0.480" in collapsed
    aged = large_gap({"digital": 0.8, "t0": 0.7, "1 day": 0.8, "1 month": 0.8}, DICE)
    assert "noise.ages_s" in aged


def test_the_gap_is_a_share_of_the_range_and_the_worst_score_is_by_the_direction():
    scores = {"digital": 5.0, "t0": 30.0}
    error = replace(DICE, name="error", label="Error", direction="lower", bounds=(0.0, 100.0))
    assert "Error on validation cases" in large_gap(scores, error)
    assert "scores within 5, got a difference of 25.000, highest t0" in large_gap(scores, error)
    assert large_gap(scores, HD95) is None  # no range


@pytest.mark.parametrize(
    ("kept", "epochs", "warned"), [(0, 10, True), (7, 10, True), (8, 10, False), (None, 1, False)]
)
def test_a_state_of_the_first_three_quarters_is_a_warning(kept, epochs, warned):
    assert bool(early_state(kept, epochs, "best")) is warned
