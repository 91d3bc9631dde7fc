"""Sweeps that are stopped, killed or damaged, and their final tables."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pandas as pd
import programs
import pytest

from analogmed.config import EngineConfig, Experiment, SweepConfig, to_yaml
from analogmed.eval import main
from analogmed.evaluation import Results, evaluate, summarise
from analogmed.evaluation.studies.robustness.study import run_sweep
from analogmed.evaluation.studies.robustness.units import Plan
from analogmed.evaluation.studies.robustness.worker import Worker
from analogmed.evaluation.unit_runs import MakeCompute
from analogmed.execution.executors import make_executor, outcomes_of
from analogmed.execution.plans import MakeStoring
from analogmed.execution.processes import ProcessExecutor
from analogmed.execution.store import Store
from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError
from analogmed.foundation.time_constants import DAY_S
from analogmed.training import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow

TABLES = ("results.parquet", "results.csv", "summary.csv")
LIMIT_S = 900.0


@pytest.fixture(scope="module")
def experiment(tiny_task, tiny_digital, tmp_path_factory):
    return Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=8, times_s=(0.0, DAY_S)),
        engine=EngineConfig(threads=1),
        out=tmp_path_factory.mktemp("whole"),
    )


@pytest.fixture(scope="module")
def whole(experiment):
    """Tables and units of the sweep in one go, in one process."""
    assert evaluate(experiment).reused == 0
    return content_of(experiment.out)


def content_of(folder):
    files = [folder / name for name in TABLES] + sorted((folder / "units").iterdir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def settings_of(experiment, folder):
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(to_yaml(replace(experiment, out=folder)))
    return ["--config", str(path)]


def started(experiment, folder):
    """`python -m analogmed.eval` in a process without a parent, whose workers are below it."""
    return subprocess.Popen(
        [sys.executable, "-m", "analogmed.eval", *settings_of(experiment, folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as in a terminal
    )


def wait_for(condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {LIMIT_S:g} s")
        time.sleep(0.02)


def units_in(folder):
    return sorted((folder / "units").glob("[0-9a-f]*.parquet"))


def test_a_second_run_computes_nothing_and_gives_the_same_bytes(experiment, whole):
    again = evaluate(experiment)
    assert (again.units, again.reused) == (9, 9)
    assert content_of(experiment.out) == whole


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes in /proc")
def test_workers_of_a_killed_sweep_end_by_themselves_and_it_goes_on_to_the_same_bytes(
    experiment, whole, tmp_path
):
    folder = tmp_path / "run"
    many = replace(experiment.sweep, chips=200)
    process = started(
        replace(experiment, sweep=many, engine=EngineConfig(workers=2, threads=1)), folder
    )
    try:
        wait_for(lambda: len(units_in(folder)) >= 1)
        workers = programs.processes_below(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(workers) >= 2
    wait_for(lambda: not any(map(programs.is_running, workers)))
    kept = len(
        {path.name for path in units_in(folder)} & {path.name for path in units_in(experiment.out)}
    )
    assert not (folder / "results.parquet").exists()
    assert evaluate(replace(experiment, out=folder)).reused == kept
    assert content_of(folder) == whole


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(experiment, whole, tmp_path):
    folder = tmp_path / "run"
    many = replace(experiment.sweep, chips=200)
    process = started(
        replace(experiment, sweep=many, engine=EngineConfig(workers=2, threads=1)), folder
    )
    try:
        wait_for(lambda: len(units_in(folder)) >= 1)
        workers = programs.processes_below(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    kept = len(units_in(folder))
    assert process.returncode == 130
    assert re.search(rf"interrupted: {kept} of \d+ units are stored in {folder}\. ", errors)
    assert "Rerun the same command to resume" in errors
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(programs.is_running, workers)))
    assert 0 < evaluate(replace(experiment, out=folder)).reused <= kept
    assert content_of(folder) == whole


def test_two_workers_give_the_bytes_of_one_and_a_killed_one_costs_only_its_unit(
    experiment, whole, tmp_path
):
    other = replace(experiment, engine=EngineConfig(workers=2, threads=1), out=tmp_path)
    store, task = Store(tmp_path), other.task.load()
    checkpoint = load_checkpoint(other.checkpoints[0])
    units = Plan(other, task, [checkpoint]).units({checkpoint.path: 8})
    killed = []

    def kill_once(unit):
        if unit.chip is not None and not killed:
            killed.append(active_children()[-1].pid)
            os.kill(killed[0], signal.SIGKILL)

    make = MakeStoring(MakeCompute(Worker, other), store.url)
    pool = make_executor(other.engine, make, threads=1, on_step=kill_once)
    try:
        with pytest.warns(UserWarning, match=r"was ended by SIGKILL.*computed again"):
            outcomes = list(outcomes_of(pool, units))
    finally:
        pool.close()
    assert sorted(o.unit.key for o in outcomes) == sorted(unit.key for unit in units)
    assert not any(outcome.failure or outcome.stop for outcome in outcomes)
    assert evaluate(other).reused == 9
    assert content_of(tmp_path) == whole


def test_a_unit_whose_worker_is_killed_twice_is_a_failure_and_the_others_go_on(
    experiment, tmp_path
):
    few = replace(experiment, sweep=replace(experiment.sweep, chips=2))
    task, checkpoint = few.task.load(), load_checkpoint(few.checkpoints[0])
    units = Plan(few, task, [checkpoint]).units({checkpoint.path: 2})

    def kill_chip_0(unit):
        if unit.chip == 0:
            for process in active_children():
                process.kill()

    make = MakeStoring(MakeCompute(Worker, few), Store(tmp_path).url)
    pool = ProcessExecutor(1, make, on_step=kill_chip_0)
    try:
        with pytest.warns(UserWarning, match="chip 0: its process was ended by SIGKILL"):
            outcomes = {o.unit.chip: o.failure for o in outcomes_of(pool, units)}
    finally:
        pool.close()
    assert outcomes[None] == outcomes[1] == ""
    assert outcomes[0].startswith("WorkerDied: its process was ended by SIGKILL")


def test_a_damaged_result_is_computed_again(experiment, whole, tmp_path):
    shutil.copytree(experiment.out, tmp_path, dirs_exist_ok=True)
    damaged = units_in(tmp_path)[3]
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.warns(UserWarning, match=rf"{damaged.name} is damaged"):
        assert evaluate(replace(experiment, out=tmp_path)).reused == 8
    assert content_of(tmp_path) == whole
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_other_settings_in_the_same_folder_take_what_fits_them(experiment, whole, tmp_path):
    first = replace(experiment, sweep=SweepConfig(chips=1, times_s=(0.0,)), out=tmp_path)
    assert evaluate(first).reused == 0
    assert evaluate(replace(first, seed=1)).reused == 1
    assert evaluate(replace(first, sweep=SweepConfig(chips=2, times_s=(0.0,)))).reused == 2
    assert evaluate(first).reused == 2
    assert len(units_in(tmp_path)) == 4


def test_a_store_beside_the_run_folder_serves_several_runs(experiment, whole, tmp_path):
    store = str(experiment.out)
    assert evaluate(replace(experiment, store=store, out=tmp_path)).reused == 9
    assert not (tmp_path / "units").exists()
    assert (tmp_path / "results.parquet").read_bytes() == whole["results.parquet"]


def test_a_store_in_memory_serves_one_process_only(experiment, whole, tmp_path):
    kept = replace(experiment, store="memory://sweep", out=tmp_path)
    assert evaluate(kept).reused == 0
    assert evaluate(kept).reused == 9
    assert (tmp_path / "results.parquet").read_bytes() == whole["results.parquet"]
    with pytest.raises(ConfigError, match="seen by one process only"):
        evaluate(replace(kept, engine=EngineConfig(workers=2, threads=1)))


def test_a_store_that_cannot_be_written_is_refused_before_the_data_are_read(experiment, tmp_path):
    (tmp_path / "file").write_text("precious")
    nowhere = replace(experiment.task, name="lgg", root=tmp_path / "nothing")
    other = replace(experiment, task=nowhere, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"cannot write to .*file"):
        evaluate(replace(other, store=str(tmp_path / "file" / "below")))


@pytest.fixture
def broken(experiment, tmp_path):
    """The same network with weights that no activation survives, for the chip by its own word."""
    trained = load_checkpoint(experiment.checkpoints[0])
    for parameter in trained.network.parameters():
        parameter.data *= 1e30
    info = replace(trained.info, training="hwa")
    return save_checkpoint(tmp_path / "broken.safetensors", trained.network, info)


@pytest.mark.filterwarnings("ignore:networks are not compared")
def test_failures_are_rows_with_their_error_and_are_tried_again_in_the_next_run(
    experiment, whole, broken, tmp_path
):
    both = replace(experiment, checkpoints=(*experiment.checkpoints, broken), out=tmp_path / "run")
    found = evaluate(both)
    table = found.table
    good, failed = (table[table["training"] == name] for name in ("digital", "hwa"))
    expected = pd.read_parquet(experiment.out / "results.parquet")
    pd.testing.assert_frame_equal(good.reset_index(drop=True), expected)
    assert len(failed) == len(good)
    assert failed["value"].isna().all()
    assert failed["note"].str.startswith("NonFiniteError: ").all()
    summary = found.summary().set_index("training")
    assert "failed evaluations left out" in summary.loc["hwa", "note"]
    assert summary.loc["digital", "dice_1d"] == summarise(expected)["dice_1d"].item()
    assert len(units_in(both.out)) == 9
    again = evaluate(both)
    assert (again.units, again.reused) == (18, 9)


@pytest.mark.filterwarnings("ignore:networks are not compared")
def test_the_program_names_the_cause_of_failures_and_ends_with_1(
    experiment, whole, broken, tmp_path, capsys
):
    """All chips of the broken network fail, and its digital run; the other network is fine."""
    folder = tmp_path / "run"
    settings = tmp_path / "experiment.yaml"
    both = replace(experiment, checkpoints=(*experiment.checkpoints, broken), examples=0)
    settings.write_text(to_yaml(replace(both, store=str(experiment.out), out=folder)))
    assert main(["--config", str(settings)]) == 1
    shown = capsys.readouterr()
    assert "9 of 18 digital runs and chips failed" in shown.err
    assert "first unet hwa, digital run: NonFiniteError: " in shown.err
    assert "Rerun the same command" in shown.err
    assert "unet" in shown.out
    assert (folder / "time_to_failure.csv").is_file()


@pytest.mark.parametrize(("failing", "figures"), [("chips", set()), ("digital runs", {"dice"})])
def test_what_remains_is_written_if_all_chips_or_all_digital_runs_failed(
    experiment, whole, failing, figures, tmp_path
):
    table = pd.read_parquet(experiment.out / "results.parquet")
    failed = table["chip"].notna() == (failing == "chips")
    table = table.assign(
        value=table["value"].mask(failed), note=table["note"].mask(failed, "E: cause")
    )
    costs = pd.DataFrame([{"model": "unet", "training": "digital", "tiles": 1}])
    with (
        pytest.warns(UserWarning, match="networks are not compared")
        if figures == set()
        else (nullcontext())
    ):
        Results(experiment, table, costs).write(tmp_path)
    assert {path.name for path in tmp_path.glob("*.csv")} >= {
        "results.csv", "summary.csv", "curves.csv"
    }  # fmt: skip
    assert {path.name.split("_")[0] for path in tmp_path.glob("figures/*")} == figures
    assert (tmp_path / "time_to_failure.csv").is_file() == (failing == "chips")
    assert summarise(table)["note"].str.contains("failed evaluations left out").all()


def test_a_missing_file_of_a_case_names_the_case(experiment, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(experiment.task.root, root)
    moved = replace(experiment, task=replace(experiment.task, root=root), out=tmp_path / "run")
    task, checkpoint = moved.task.load(), load_checkpoint(moved.checkpoints[0])
    case = task.test[0]
    case.images[0].unlink()
    with pytest.raises(DataError, match=rf"case {case.case_id}: .*{case.images[0].name}"):
        Plan(moved, task, [checkpoint])


def test_nothing_but_failures_is_an_error(experiment, broken, tmp_path):
    alone = replace(experiment, checkpoints=(broken,), out=tmp_path / "run")
    with pytest.raises(AnalogmedError, match=r"all 9 units .* unet hwa, digital run: NonFinite"):
        evaluate(alone)


def test_a_result_that_vanishes_from_the_store_is_a_failure(experiment, tmp_path):
    task, checkpoint = experiment.task.load(), load_checkpoint(experiment.checkpoints[0])

    class Forgetful(Store):
        def read(self, key):
            return None if key == lost else super().read(key)

    lost = Plan(experiment, task, [checkpoint]).digital(checkpoint).key
    store = Forgetful(tmp_path)
    store.ensure_writable()
    table = run_sweep(experiment, task, [checkpoint], store).value
    digital = table[table["hardware"] == "digital"]
    assert digital["note"].str.startswith("StoreError: its result is not in the store").all()
