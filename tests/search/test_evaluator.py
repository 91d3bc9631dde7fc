from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analogmed.analog import Hardware
from analogmed.config import SweepConfig, TaskConfig
from analogmed.evaluation import evaluate
from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import DAY_S
from analogmed.models import Genotype, Level
from analogmed.search import evaluator as evaluators
from analogmed.search.evaluator import MONTH_S, TIMES_S, ChipEvaluator, chip_metrics
from analogmed.search.selection import selection_split, selection_task
from analogmed.search.settings import CandidateConfig
from analogmed.tables.results import to_table
from analogmed.training import OptimizerConfig, load_checkpoint

pytestmark = pytest.mark.slow

SMALL = Genotype((Level("C", 8, 3), Level("C", 8, 3)))
LINEAR = Genotype((Level("A", 4),))


def patients(cases):
    return {case.patient_id for case in cases}


@pytest.fixture(scope="module")
def inner(tiny_task, tmp_path_factory):
    return selection_task(tiny_task, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def evaluator(inner):
    candidate = CandidateConfig(
        epochs=20,
        hwa_epochs=2,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=0.01, ema=0.9),
        chips=2,
    )
    return ChipEvaluator(inner, candidate=candidate, uncertainty=True)


@pytest.fixture(scope="module")
def evaluated(evaluator, tmp_path_factory):
    """A candidate's metrics, and the folder that it left."""
    folder = tmp_path_factory.mktemp("trial")
    return evaluator.evaluate(SMALL, folder), folder


@pytest.mark.parametrize("outside", [1, 3])
def test_the_threads_of_a_process_do_not_reach_the_training(inner, outside, monkeypatch, tmp_path):
    """Sums over threads round differently: their number is the candidate's, not the engine's."""
    seen = []
    monkeypatch.setattr(
        evaluators, "train", lambda config: seen.append(torch.get_num_threads()) or config.out / "x"
    )
    monkeypatch.setattr(ChipEvaluator, "assess", lambda *_: {})
    before = torch.get_num_threads()
    torch.set_num_threads(outside)
    try:
        ChipEvaluator(inner).evaluate(LINEAR, tmp_path)
        ChipEvaluator(inner, candidate=CandidateConfig(threads=2)).evaluate(LINEAR, tmp_path)
        assert torch.get_num_threads() == outside
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 2, 2]


def test_a_candidate_is_validated_twice_in_each_training(inner, tmp_path):
    evaluator = ChipEvaluator(inner, candidate=CandidateConfig(epochs=10, hwa_epochs=7))
    assert evaluator.training(LINEAR, tmp_path).validate_every == 5
    hwa = evaluator.training(LINEAR, tmp_path, init=tmp_path / "network.safetensors")
    assert hwa.validate_every == 3
    one = ChipEvaluator(inner, candidate=CandidateConfig(epochs=1))
    assert one.training(LINEAR, tmp_path).validate_every == 1


def test_no_test_patient_is_in_the_split_of_a_search(tiny_task, inner):
    outer, own = tiny_task.load(), inner.load()
    parts = [patients(part) for part in (own.train, own.validation, own.test)]
    assert all(parts)
    assert set.union(*parts) == patients(outer.train) | patients(outer.validation)
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_the_selection_patients_follow_the_seed(tiny_task):
    task = tiny_task.load()
    assert selection_split(task, seed=3) == selection_split(task, seed=3)
    assert len({str(selection_split(task, seed=seed)) for seed in range(8)}) > 1


def test_a_search_needs_three_patients_beside_the_test_part(tmp_path):
    task = TaskConfig(root=tmp_path, options={"phantom_patients": 3, "phantom_size": 32})
    with pytest.raises(DataError, match="3 patients or more that are not kept for testing"):
        selection_task(task, tmp_path)


def test_what_needs_no_training_is_counted(evaluator):
    counted = evaluator.count(LINEAR)
    assert counted["parameters"] == (3 * 4 + 4) + (4 * 1 + 1)
    assert counted["tiles"] == 2
    assert counted.keys() == {"parameters", "tiles", "latency_ms", "energy_mj"}


def test_latency_is_the_products_of_the_layers_one_after_the_other(evaluator):
    mixed, head = 1, 1  # products a position
    deeper = Genotype((Level("A", 4), Level("A", 4)))  # down, up at a quarter each, and join
    ratio = (mixed + 1 / 4 + 1 / 4 + mixed + head) / (mixed + head)
    one, two = evaluator.count(LINEAR), evaluator.count(deeper)
    assert two["latency_ms"] / one["latency_ms"] == pytest.approx(ratio)


def test_metrics_are_those_of_an_evaluation(evaluated, evaluator, tmp_path):
    metrics, folder = evaluated
    experiment = evaluator.experiment(folder / "hwa")
    found = evaluate(replace(experiment, examples=0, out=tmp_path)).summary().iloc[0]
    for name in ("dice_t0", "dice_1d", "dice_1d_std", "dice_1mo"):
        assert metrics[name] == pytest.approx(found[name], abs=1e-9), name
    assert metrics["dice_digital"] == pytest.approx(found["dice_own_digital"], abs=1e-9)
    assert metrics["avm_drop"] == pytest.approx(-found["avm"], abs=1e-9)
    assert metrics["parameters"] == found["parameters"]
    assert metrics["tiles"] == found["tiles"]


def test_a_candidate_may_be_tested_with_the_split_of_the_task(evaluated, tiny_task):
    _, folder = evaluated
    checkpoint = load_checkpoint(folder / "hwa" / "network.safetensors", factories=("subnet",))
    assert not set(checkpoint.info.patients) & patients(tiny_task.load().test)
    checkpoint.info.refuse_leakage(tiny_task.load(), checkpoint.path)


def test_a_trial_leaves_its_network_and_table_and_no_training_state(evaluated):
    _, folder = evaluated
    assert Genotype.of((folder / "genotype.json").read_text()) == SMALL
    assert (folder / "results.parquet").exists()
    assert (folder / "digital" / "network.safetensors").exists()
    assert not list(folder.glob("*/state-*"))


def test_equal_seeds_give_equal_candidates(evaluated, evaluator, tmp_path):
    assert evaluator.evaluate(SMALL, tmp_path) == evaluated[0]


def test_chips_without_noise_leave_no_uncertainty_and_no_deviation(evaluated, inner, tmp_path):
    _, folder = evaluated
    perfect = ChipEvaluator(
        inner, hardware=Hardware("ideal"), candidate=CandidateConfig(chips=2), uncertainty=True
    )
    metrics = perfect.assess(SMALL, folder / "hwa" / "network.safetensors", tmp_path)
    assert metrics["uncertainty"] == pytest.approx(0, abs=1e-6)
    assert metrics["dice_1d_std"] == pytest.approx(0, abs=1e-9)
    assert metrics["dice_1d"] == pytest.approx(metrics["dice_digital"], abs=1e-3)
    assert evaluated[0]["uncertainty"] > 1e-4


def table(values, metric="dice"):
    """A results table of one case per row and two chips, at the times of a search."""
    common = {
        "task": "t", "model": "subnet", "training": "hwa", "read": 0,
        "class": "a", "metric": metric, "unit": "1", "note": "",
    }  # fmt: skip
    rows = []
    for case, (digital, *on_chips) in enumerate(values):
        of_case = {**common, "case": f"c{case}", "patient": f"p{case}"}
        rows.append({**of_case, "hardware": "digital", "value": digital})
        for chip in range(2):
            for time_s, value in zip(TIMES_S, on_chips[chip], strict=True):
                address = {"hardware": "pcm", "chip": chip, "time_s": time_s}
                rows.append({**of_case, **address, "value": value})
    return to_table(rows)


def test_dice_is_averaged_over_patients_and_chips():
    values = [
        (0.9, (0.8, 0.8, 0.7, 0.5), (0.8, 0.8, 0.5, 0.3)),
        (0.7, (0.6, 0.6, 0.5, 0.3), (0.6, 0.6, 0.3, 0.1)),
    ]
    metrics = chip_metrics(table(values), ["dice"])
    assert metrics["dice_digital"] == pytest.approx(0.8)
    assert metrics["dice_t0"] == pytest.approx(0.7)
    assert metrics["dice_1d"] == pytest.approx(0.5)
    assert metrics["dice_1d_std"] == pytest.approx(np.std([0.6, 0.4], ddof=1))
    assert metrics["dice_1mo"] == pytest.approx(0.3)
    assert metrics["avm_drop"] == pytest.approx(0.7 - 0.3)


def test_cases_with_nothing_to_segment_are_left_out():
    nothing = (float("nan"),) * 4
    half = (0.5,) * 4
    metrics = chip_metrics(table([(0.5, half, half), (float("nan"), nothing, nothing)]), ["dice"])
    assert metrics["dice_1d"] == pytest.approx(0.5)
    with pytest.raises(DataError, match="Dice is undefined"):
        chip_metrics(table([(float("nan"), nothing, nothing)]), ["dice"])


def test_further_metrics_have_estimates_of_their_own():
    worse, bad = (9.0, 9.0, 7.0, 11.0), (5.0, 5.0, 5.0, 11.0)
    both = pd.concat([table([(0.5, *[(0.5,) * 4] * 2)]), table([(3.0, worse, bad)], "hd95")])
    metrics = chip_metrics(both, ["dice", "hd95"])
    assert metrics["hd95_1d"] == 6.0 and metrics["hd95_digital"] == 3.0
    assert metrics["hd95_avm_drop"] == 11.0 - 7.0  # of a distance, a drop is a larger one
    assert metrics["avm_drop"] == 0.0 and metrics["dice_1d"] == 0.5
    other = chip_metrics(both, ["hd95", "dice"])
    assert other["avm_drop"] == other["hd95_avm_drop"] == 4.0 and other["dice_avm_drop"] == 0.0


@pytest.mark.parametrize("primary", ["dice", "hd95"])
def test_a_candidate_is_evaluated_by_the_primary_metric_and_those_of_the_goal(inner, primary):
    evaluator = ChipEvaluator(inner, metrics=("dice", "nsd"))
    evaluator.task = replace(evaluator.task, primary_metric=primary)
    expected = tuple(dict.fromkeys((primary, "dice", "nsd")))
    assert evaluator.experiment(Path("network.safetensors")).metrics == expected


def test_a_search_reads_chips_at_the_times_that_its_metrics_name():
    assert TIMES_S == (0.0, 1.0, DAY_S, MONTH_S) == SweepConfig(times_s=TIMES_S).times_s
    assert MONTH_S == 2_592_000.0
