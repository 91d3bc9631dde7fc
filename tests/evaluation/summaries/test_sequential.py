import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analogmed.config import EngineConfig, Experiment, SweepConfig
from analogmed.evaluation import evaluate, summarise
from analogmed.evaluation.summaries.sequential import first_chips, more_chips
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import DAY_S
from analogmed.tables.results import to_table

SD_OF_CHIPS, SD_OF_CASES, CASES = 0.05, 0.005, 12
A, B, C = Path("a"), Path("b"), Path("c")


@dataclass(frozen=True)
class Named:
    model: str
    training: str


NETWORKS = {A: Named("unet", "digital"), B: Named("unet", "hwa"), C: Named("unetpp", "digital")}


def settings(width, chips=40):
    return Experiment(sweep=SweepConfig(chips=chips, times_s=(DAY_S,), width=width))


def table_of(chips, still=()):
    """Dice of 12 patients, digitally and on chips, whose spread is known; none where still."""
    rows = []
    for path, n in chips.items():
        rng = np.random.default_rng(ord(path.name))
        case_effects = rng.normal(0, SD_OF_CASES, CASES)
        of_chips = rng.normal(0, 0 if path in still else SD_OF_CHIPS, 1000)
        address = {"task": "t", "model": NETWORKS[path].model, "metric": "dice", "unit": "1"}
        address |= {"training": NETWORKS[path].training, "class": "tumour", "note": ""}
        for case, effect in enumerate(case_effects):
            where = address | {"case": f"c{case}", "patient": f"p{case}"}
            rows.append(where | {"hardware": "digital", "value": 0.8 + effect})
            rows += [
                {
                    **where,
                    "hardware": "pcm",
                    "chip": chip,
                    "time_s": DAY_S,
                    "read": 0,
                    "value": 0.7 + effect + of_chips[chip],
                }
                for chip in range(n)
            ]
    return to_table(rows)


def sweep(experiment, paths=(A,), still=()):
    """Rounds until no more chips are asked for."""
    rounds = [first_chips(experiment, list(paths))]
    while (
        more := more_chips(experiment, NETWORKS, rounds[-1], table_of(rounds[-1], still))
    ) is not None:
        rounds.append(more)
    return rounds


def width_of(table):
    row = summarise(table).iloc[0]
    return row["dice_1d_high"] - row["dice_1d_low"]


def test_a_fixed_number_of_chips_is_one_round():
    fixed = Experiment(sweep=SweepConfig(chips=7))
    assert first_chips(fixed, [A]) == {A: 7}
    assert more_chips(fixed, NETWORKS, {A: 7}, pd.DataFrame()) is None


def test_chips_are_added_until_the_interval_is_narrower_than_asked():
    rounds = sweep(settings(0.06))
    assert rounds[0] == {A: 5}
    assert width_of(table_of(rounds[0])) > 0.06
    assert width_of(table_of(rounds[-1])) <= 0.06
    assert rounds[-1][A] < 40
    assert all(one[A] < two[A] <= 2 * one[A] for one, two in pairwise(rounds))


def test_the_budget_ends_it_and_the_width_is_told():
    with pytest.warns(UserWarning, match=r"unet digital: budget used; .* wide, not 0.06"):
        assert sweep(settings(0.06, chips=6))[-1] == {A: 6}


def test_patients_that_differ_too_much_end_it_and_this_is_told():
    with pytest.warns(UserWarning, match="more chips would not help"):
        assert sweep(settings(0.001, chips=1000), still=(A,)) == [{A: 5}]


def test_another_model_gets_no_more_chips_but_another_training_does():
    last = sweep(settings(0.06), (A, B, C), still=(B, C))[-1]
    assert last[A] == last[B] > 5
    assert last[C] == 5


@pytest.fixture
def experiment(tiny_task, tiny_digital, tmp_path):
    """Two test patients: more chips would not help."""
    sweep = SweepConfig(chips=6, times_s=(DAY_S,), width=0.5, first_chips=2)
    return Experiment(
        task=tiny_task, checkpoints=(tiny_digital,), sweep=sweep, out=tmp_path / "run"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*more chips would not help")
def test_the_rows_are_those_of_as_many_chips_asked_for_outright(experiment, tmp_path):
    found = evaluate(experiment)
    assert found.units == 1 + 2
    fixed = replace(experiment, sweep=SweepConfig(chips=2, times_s=(DAY_S,)), out=tmp_path / "b")
    pd.testing.assert_frame_equal(found.table, evaluate(fixed).table)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*more chips would not help")
def test_a_stopped_sequential_sweep_goes_on_to_the_same_table(experiment):
    whole = evaluate(experiment).table
    next((experiment.out / "units").iterdir()).unlink()
    again = evaluate(experiment)
    assert (again.units, again.reused) == (3, 2)
    pd.testing.assert_frame_equal(again.table, whole)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0.0}, "sweep.width: expected a finite number above 0, got 0.0"),
        ({"width": math.inf}, "a finite number above 0, got inf"),
        ({"width": 0.1, "times_s": (0.0,)}, "expected one day among sweep.times_s.* Add 86400"),
        ({"width": 0.1, "first_chips": 1}, "between 2, the fewest .* got 1"),
        ({"width": 0.1, "chips": 4, "first_chips": 5}, "sweep.chips = 4, got 5"),
    ],
)
def test_a_width_that_cannot_be_reached_so_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        SweepConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"workers": 0}, "engine.workers must be 1 or more, got 0"),
        ({"cpus": 0.0}, "engine.cpus must be above 0"),
        ({"gpus": -1.0}, "engine.gpus must be 0 or more"),
        ({"address": "auto"}, "add --engine.name ray"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**values)
