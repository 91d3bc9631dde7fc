import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pandas as pd
import programs
import pytest

from analogmed.cli.main import run_command
from analogmed.cli.options import to_options
from analogmed.cli.parse import parse
from analogmed.config import EngineConfig, Experiment, TaskConfig
from analogmed.evaluation import evaluate
from analogmed.evaluation.passes import chip_seed
from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.search.run import NothingFeasibleError, search
from analogmed.search.settings import CandidateConfig, SearchConfig, StrategyConfig
from analogmed.search.space.space import Space
from analogmed.search.winner import evaluation_of
from analogmed.training import OptimizerConfig, load_checkpoint

main = partial(run_command, "search")

pytestmark = pytest.mark.slow

SPACE = Space(depths=(1, 2), blocks=("A", "C"), widths=(2, 4), growths=(1,), kernels=(3,))


@pytest.fixture(scope="module")
def config(tiny_task, tmp_path_factory):
    return SearchConfig(
        task=tiny_task,
        space=SPACE,
        strategy=StrategyConfig("random"),
        budget=3,
        candidate=CandidateConfig(epochs=1, hwa_epochs=1, batch_size=8, chips=2),
        final_epochs=1,
        out=tmp_path_factory.mktemp("search"),
    )


@pytest.fixture(scope="module")
def found(config):
    return search(config)


def start(config):
    """Start a search in a process without a parent, whose workers are its children."""
    command = [sys.executable, "-m", "analogmed.search", *to_options(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_search_evaluates_its_budget_and_names_the_best(found, config):
    evaluated = found.candidates[found.candidates["status"] == "evaluated"]
    assert len(evaluated) == config.budget
    assert evaluated["key"].is_unique
    assert found.front["dice_1d"].iloc[0] == evaluated["dice_1d"].max()
    known = evaluated[["dice_1d", "dice_1mo", "tiles", "latency_ms", "seconds"]]
    assert known.notna().to_numpy().all()


def test_a_run_folder_holds_tables_and_figures(found, config):
    read = pd.read_parquet(config.out / "candidates.parquet")
    pd.testing.assert_frame_equal(read, found.candidates, check_dtype=False)
    front = pd.read_csv(config.out / "front.csv")
    for checkpoint in front["checkpoint"]:
        assert (config.out / checkpoint / "network.safetensors").exists()
    for name in ("figures/pareto.png", "figures/history.png", "candidates.csv", "search.yaml"):
        assert (config.out / name).stat().st_size > 0


def test_the_winner_is_trained_on_all_patients_but_the_test_patients(found, config):
    checkpoint = load_checkpoint(found.winner / "network.safetensors", factories=("subnet",))
    task = config.task.load()
    outer = {case.patient_id for case in (*task.train, *task.validation)}
    assert set(checkpoint.info.patients) == outer
    assert checkpoint.network.genotype.to_json() == found.front["genotype"].iloc[0]


def test_the_winner_goes_to_the_evaluation(found, config, tmp_path):
    experiment = evaluation_of(config, found.winner, found.best[1])
    seeds = [
        {chip_seed(root, "subnet", number) for number in range(20)}
        for root in (config.seed, experiment.seed)
    ]
    assert seeds[0].isdisjoint(seeds[1])  # no chip that chose the winner tests it
    sweep = replace(experiment.sweep, chips=2, times_s=(0.0, 86_400.0))
    given = replace(experiment, sweep=sweep, examples=0, out=tmp_path)
    assert parse(Experiment, to_options(given), prog="eval") == given
    summary = evaluate(given).summary()
    assert list(summary["training"]) == ["digital", "hwa"]


def test_the_same_command_has_nothing_left_to_do(found, config):
    checkpoint = (found.winner / "network.safetensors").read_bytes()
    again = search(config)
    pd.testing.assert_frame_equal(again.candidates, found.candidates)
    assert (again.winner / "network.safetensors").read_bytes() == checkpoint


def test_a_larger_budget_goes_on(found, config):
    more = search(replace(config, budget=4, final_epochs=0))
    evaluated = more.candidates[more.candidates["status"] == "evaluated"]
    assert len(evaluated) == 4
    assert set(found.candidates["key"]) <= set(more.candidates["key"])
    trial = config.out / more.front.iloc[0][["number", "key"]].pipe(
        lambda row: f"trials/{row['number']:04d}-{row['key']}/hwa/network.safetensors"
    )
    assert (more.winner / "network.safetensors").read_bytes() == trial.read_bytes()


def test_other_settings_are_refused_and_change_nothing(found, config):
    before = (config.out / "selection.json").read_bytes()
    with pytest.raises(ConfigError, match="  seed: 0 -> 5\n"):
        search(replace(config, seed=5))
    assert (config.out / "selection.json").read_bytes() == before


def evaluated_in(folder):
    """Trials that a journal says are done, with the networks that were known already."""
    path = folder / "study.log"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [entry["trial_id"] for entry in found if entry.get("state") == 1 and "values" in entry]


def wait_for(condition, seconds=900):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.2)


def test_a_killed_search_loses_what_was_in_work_and_no_more(config, found, tmp_path):
    killed = replace(config, engine=EngineConfig(workers=2), budget=6, out=tmp_path)
    process = start(killed)
    wait_for(lambda: len(evaluated_in(tmp_path)) >= 2 or process.poll() is not None)
    children = programs.processes_below(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = evaluated_in(tmp_path)
    assert 2 <= len(done) < 6
    wait_for(lambda: not any(map(programs.is_running, children)))

    resumed = search(replace(killed, engine=EngineConfig(), budget=len(done) + 1))
    counts = resumed.candidates["status"].value_counts()
    assert counts["evaluated"] == len(done) + 1
    assert counts.get("lost", 0) <= 2
    kept = resumed.candidates.set_index("number").loc[done]
    assert set(kept["status"]) <= {"evaluated", "known"}

    # networks and metrics are those of one process that was not killed, to the last bit
    whole, again = (
        table[table["status"] == "evaluated"].set_index("number")
        for table in (found.candidates, resumed.candidates)
    )
    both = whole.index.intersection(again.index)
    assert len(both) >= 2
    names = ["network", "dice_1d", "dice_1mo", "dice_digital", "tiles"]
    pd.testing.assert_frame_equal(whole.loc[both, names], again.loc[both, names], check_exact=True)


def test_two_searches_on_one_folder_share_the_budget(config, tmp_path):
    shared = replace(config, budget=4, final_epochs=0, out=tmp_path)
    other = programs.start("analogmed.search", *to_options(shared))
    try:
        wait_for((tmp_path / "study.log").exists)
        search(shared)
    finally:
        _, errors = other.communicate()
    assert other.returncode == 0, errors
    table = search(shared).candidates
    evaluated = table[table["status"] == "evaluated"]
    assert len(evaluated) == 4
    assert evaluated["key"].is_unique
    assert set(table["status"]) <= {"evaluated", "known", "lost"}


def test_constraints_that_nothing_keeps_end_with_the_nearest_networks(config, tmp_path, capsys):
    impossible = replace(config, constraints=("tiles <= 1",), proposals=4, out=tmp_path)
    with pytest.raises(NothingFeasibleError) as caught:
        search(impossible)
    assert not (tmp_path / "trials").exists()
    message = str(caught.value)
    assert "keeps tiles <= 1; the nearest:\n number" in message
    nearest = message.splitlines()[2].split()
    assert nearest[1].startswith("2d:")
    assert [float(cell) for cell in nearest[2:]] == [2.0, 1.0]  # two layers, one too many


def test_what_is_measured_can_be_bounded_too(found, config, tmp_path):
    strict = replace(config, constraints=("dice_1d >= 2",), budget=1, out=tmp_path)
    with pytest.raises(NothingFeasibleError, match=r"none of .* keeps dice_1d >= 2; the nearest"):
        search(strict)
    table = pd.read_parquet(tmp_path / "candidates.parquet")
    one = table[table["status"] == "evaluated"].iloc[0]
    assert (one["feasible"], one["on_front"]) == (False, False)
    assert one["violation"] == pytest.approx((2 - one["dice_1d"]) / 2)


def test_networks_that_all_fail_end_with_their_error(config, tmp_path):
    diverging = replace(
        config.candidate, optimizer=OptimizerConfig(learning_rate=1e30, gradient_norm=1e30, ema=0.0)
    )
    with pytest.raises(AnalogmedError, match=r"all \d+ networks failed; the first .*loss is nan"):
        search(replace(config, candidate=diverging, budget=2, out=tmp_path))
    table = pd.read_parquet(tmp_path / "candidates.parquet")
    assert table["error"].str.startswith("NonFiniteError: ").all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "evoluton"], "did you mean 'evolution'?"),
        (["--objectives", "dice_1w"], "objectives: unknown metric 'dice_1w'; did you mean"),
        (["--constraints", "tiles < 40"], "constraint 'tiles < 40': expected a metric, <= or >="),
        (["--space.blocks", "A", "Q"], "unknown block 'Q'"),
        (["--space.blocks", "H"], "H is not a block of 2D"),
        (["--space.spatial_dims", "3"], "space.spatial_dims: expected 2 for task"),
        (["--space.depths", "5", "--task.options.window", "[24, 24]"], "divisible by 16"),
        (["--space.depths", "5", "--task.options.window", "[16, 16]"], "got [16, 16]. Leave"),
        (["--budget", "0"], "budget must be 1 or more, got 0"),
        (["--profile", "hermes"], "unknown profile 'hermes'"),
        (["--strategy.options", "{populaton: 3}"], "strategy random: unknown option"),
        (["--candidate.chips", "1", "--objectives", "dice_1d_std"], "set candidate.chips to 2"),
        (["--candidate.chips", "1", "--objectives", "uncertainty"], "is 0 for a single pass"),
        (
            ["--candidate.chips", "1", "--constraints", "uncertainty <= 0.1"],
            "expected 2 passes or more, got 1",
        ),
        (
            ["--space.places", "analog", "digital", "--objectives", "latency_ms"],
            "has no digital_gmac_per_s, so that digital layers would be free",
        ),
        (
            ["--space.purpose", "classification"],
            "expected segmentation for task phan",
        ),
    ],
)
def test_bad_settings_are_told_before_anything_is_trained(
    arguments, message, tiny_task, tmp_path, capsys
):
    base = SearchConfig(task=tiny_task, strategy=StrategyConfig("random"), out=tmp_path)
    assert main([*to_options(base), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "trials").exists()


def test_a_file_of_settings_and_options_give_the_same(config, tmp_path):
    bounded = replace(
        config,
        constraints=("tiles <= 40", "avm_drop <= 0.02"),
        supernets={"brain": tmp_path},
        task=TaskConfig("lgg", tmp_path),
    )
    assert parse(SearchConfig, to_options(bounded), prog="search") == bounded
