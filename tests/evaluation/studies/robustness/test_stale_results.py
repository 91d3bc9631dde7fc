"""Results are reused only if everything that they depend on is unchanged."""

import importlib
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from analogmed.config import EngineConfig, Experiment, SweepConfig
from analogmed.evaluation import evaluate, unit_code, unit_inputs
from analogmed.evaluation.studies.robustness.units import Plan
from analogmed.evaluation.studies.robustness.worker import Worker
from analogmed.evaluation.unit_inputs import threads_of
from analogmed.evaluation.unit_runs import MakeCompute
from analogmed.execution.compute import evaluate as evaluate_unit
from analogmed.execution.plans import MakeStoring, StoringCompute
from analogmed.execution.ray_cluster import compute_unit
from analogmed.execution.store import Store
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.metrics.notes import BOTH_EMPTY, SPURIOUS
from analogmed.training import load_checkpoint, save_checkpoint

WITHOUT_REFERENCE = (SPURIOUS, BOTH_EMPTY)
FACTORY = """
import torch
from analogmed.models.unet import UNet
from stale_factory_parts import FACTOR

class Scaled(UNet):
    def forward(self, images):
        return super().forward(FACTOR * images)
"""


@pytest.fixture
def experiment(tiny_task, tiny_digital, tmp_path):
    return Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=1, times_s=(0.0,)),
        examples=0,
        out=tmp_path / "run",
    )


@pytest.fixture
def factory(experiment, tmp_path, monkeypatch):
    """An experiment with a network of the user; its module takes a factor from another one."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "stale_factory.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(code)

    def with_factor(factor):
        (code / "stale_factory_parts.py").write_text(f"FACTOR = {factor}\n")
        importlib.invalidate_caches()

    with_factor(1.0)
    trained = load_checkpoint(experiment.checkpoints[0])
    info = replace(trained.info, model="stale_factory:Scaled")
    path = save_checkpoint(tmp_path / "scaled.safetensors", trained.network, info)
    yield replace(experiment, checkpoints=(path,), factories=(info.model,)), with_factor
    _forget()


def _forget():
    for name in ("stale_factory", "stale_factory_parts"):
        sys.modules.pop(name, None)


def dice_of(results):
    return results.table.set_index("chip")["value"].groupby(level=0, dropna=False).mean().tolist()


@pytest.mark.slow
def test_an_edited_factory_is_evaluated_again(factory):
    experiment, with_factor = factory
    first = evaluate(experiment)
    assert evaluate(experiment).reused == 2
    with_factor(-3.0)
    _forget()  # as a new process would
    second = evaluate(experiment)
    assert (first.reused, second.reused) == (0, 0)
    assert dice_of(second) != dice_of(first)


@pytest.mark.slow
def test_a_factory_that_was_edited_since_its_import_is_refused(factory):
    experiment, with_factor = factory
    evaluate(experiment)
    with_factor(-3.0)
    with pytest.raises(ConfigError, match=r"stale_factory_parts\.py: the file has changed since"):
        evaluate(experiment)
    importlib.reload(sys.modules["stale_factory_parts"])
    importlib.reload(sys.modules["stale_factory"])
    assert evaluate(experiment).reused == 0


def test_the_code_of_a_bundle_and_of_plugins_is_covered(tmp_path, monkeypatch, factory):
    bundle = tmp_path / "bundle" / "configs"
    bundle.mkdir(parents=True)
    (bundle / "inference.json").write_text("{}")
    before = unit_code.network_code(f"bundle:{bundle.parent}")
    (bundle / "inference.json").write_text('{"a": 1}')
    assert unit_code.network_code(f"bundle:{bundle.parent}") != before

    point = importlib.metadata.EntryPoint("mine", "stale_factory:Scaled", "analogmed.models")
    monkeypatch.setattr("analogmed.foundation.registry.installed_plugins", lambda group: [point])
    of_plugin = unit_code.network_code("mine"), unit_code.task_code("mine")
    assert of_plugin == (unit_code.network_code("stale_factory:Scaled"),) * 2
    assert unit_code.network_code("unet") == ""


def blank_the_labels(task):
    """Let the reference of all test cases lack the structure: their Dice is then undefined."""
    for case in task.test:
        for label in case.labels:
            tifffile.imwrite(label, np.zeros_like(tifffile.imread(label)))


@pytest.fixture
def own_data(experiment, tmp_path):
    """The experiment on a copy of the data."""
    root = tmp_path / "data"
    for path in experiment.task.root.rglob("*"):
        if path.is_file():
            copy = root / path.relative_to(experiment.task.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return replace(experiment, task=replace(experiment.task, root=root))


def digital_unit(experiment):
    checkpoint = load_checkpoint(experiment.checkpoints[0])
    return Plan(experiment, experiment.task.load(), [checkpoint]).digital(checkpoint)


def test_a_process_of_ray_that_is_kept_computes_with_the_data_of_each_unit(own_data, tmp_path):
    """What Ray calls, called twice in one process."""
    store = Store(tmp_path / "kept")
    job = (MakeStoring(MakeCompute(Worker, own_data), store.url), 1)
    first = digital_unit(own_data)
    assert compute_unit(job, first).stop is None
    blank_the_labels(own_data.task.load())
    second = digital_unit(own_data)
    assert compute_unit(job, second).stop is None
    assert not store.read(first.key).table["note"].isin(WITHOUT_REFERENCE).any()
    assert store.read(second.key).table["note"].isin(WITHOUT_REFERENCE).all()


def test_a_worker_refuses_data_that_were_changed_after_the_plan(own_data, tmp_path):
    unit = digital_unit(own_data)
    blank_the_labels(own_data.task.load())
    outcome = evaluate_unit(StoringCompute(Worker(own_data), Store(tmp_path / "kept")), unit)
    assert isinstance(outcome.stop, DataError)
    assert "cases_digest" in str(outcome.stop)
    assert not Store(tmp_path / "kept").keys()


def test_a_worker_refuses_to_compute_on_another_kind_of_processor(
    experiment, tmp_path, monkeypatch
):
    unit = digital_unit(experiment)
    monkeypatch.setattr(unit_inputs, "processor_kind", lambda: {"name": "another"})
    outcome = evaluate_unit(StoringCompute(Worker(experiment), Store(tmp_path)), unit)
    assert isinstance(outcome.stop, ConfigError)
    assert "another processor" in str(outcome.stop)


def keys(experiment):
    checkpoint = load_checkpoint(experiment.checkpoints[0])
    planned = Plan(experiment, experiment.task.load(), [checkpoint])
    return planned.digital(checkpoint).key, planned.chip(checkpoint, 0).key


def test_threads_are_part_of_the_key_where_they_change_bytes(experiment):
    on_one, on_two = (
        replace(experiment, engine=EngineConfig(workers=workers, threads=threads))
        for workers, threads in ((1, 1), (2, 2))
    )
    digital, chip = keys(on_one)
    assert keys(on_two)[0] == digital
    assert keys(on_two)[1] != chip
    assert keys(replace(on_two, engine=EngineConfig(workers=5, threads=1))) == (digital, chip)
    mixed = [replace(e, digital_layers=("head",)) for e in (on_one, on_two)]
    assert keys(mixed[0]) == keys(mixed[1])


def test_threads_of_a_unit_follow_from_the_engine(monkeypatch):
    monkeypatch.setattr(unit_inputs, "available_cores", lambda: 9)
    assert threads_of(EngineConfig()) == torch.get_num_threads()
    assert threads_of(EngineConfig(workers=4)) == 2
    assert threads_of(EngineConfig(workers=20)) == 1
    assert threads_of(EngineConfig("ray", cpus=2.5)) == 2
    assert threads_of(EngineConfig(workers=4, threads=3)) == 3


def test_a_unit_is_computed_on_the_threads_of_its_description(experiment, tmp_path, monkeypatch):
    used = []
    original = Store.write
    monkeypatch.setattr(
        "analogmed.evaluation.studies.robustness.worker.run_unit",
        lambda *_: used.append(torch.get_num_threads()) or [],
    )
    two = replace(experiment, engine=EngineConfig(threads=2))
    checkpoint, task = load_checkpoint(two.checkpoints[0]), two.task.load()
    worker = StoringCompute(Worker(two, task), Store(tmp_path))
    before = torch.get_num_threads()
    for unit in Plan(two, task, [checkpoint]).units({checkpoint.path: 1}):
        assert [evaluate_unit(worker, unit).failure for _ in range(2)] == ["", ""]
    assert used == [1, 1, 2, 2]
    assert torch.get_num_threads() == before
    assert Store.write is original


@pytest.mark.parametrize("name", ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "NUMBA_CPU_NAME"])
def test_another_kind_of_processor_is_another_unit(experiment, monkeypatch, name):
    before = keys(experiment)
    if name == "ATEN_CPU_CAPABILITY":  # torch reads it when it is imported
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ANOTHER")
    else:
        monkeypatch.setenv(name, "another")
    assert not set(keys(experiment)) & set(before)


@pytest.mark.slow
def test_restart_computes_and_replaces_what_is_stored(experiment):
    first = evaluate(experiment)
    units = sorted((experiment.out / "units").glob("*.parquet"))
    times = [path.stat().st_mtime_ns for path in units]
    again = evaluate(replace(experiment, restart=True))
    assert (first.reused, again.reused, again.reuse) == (0, 0, "")
    assert sorted((experiment.out / "units").glob("*.parquet")) == units
    assert all(path.stat().st_mtime_ns > t for path, t in zip(units, times, strict=True))
    assert evaluate(experiment).reused == 2


@pytest.mark.slow
def test_a_run_says_what_it_reuses_and_from_when(experiment, tmp_path):
    evaluate(experiment)
    more = evaluate(replace(experiment, sweep=SweepConfig(chips=2, times_s=(0.0,))))
    assert re.fullmatch(
        rf"2 of 3 digital runs and chips are reused from {experiment.out}, computed "
        r"\d{4}-\d\d-\d\d \d\d:\d\d( to [-\d]+ [:\d]+)?; --restart true computes them again",
        more.reuse,
    )


@pytest.mark.slow
def test_files_of_the_user_in_the_run_folder_stay(experiment):
    """They are refused before anything is computed, and a run removes its own files only."""
    experiment = replace(experiment, examples=1)
    evaluate(experiment)
    examples = experiment.out / "examples"
    assert [path.name for path in examples.iterdir()] == ["0-worst.npz"]
    evaluate(replace(experiment, examples=0))
    assert not list(examples.iterdir())
    (experiment.out / "notes.txt").write_text("of the user")
    (examples / "mine.npz").write_text("of the user")
    with pytest.raises(ConfigError, match=r"replace or remove examples/mine\.npz, which no run"):
        evaluate(experiment)
    (examples / "mine.npz").rename(experiment.out / "comparison.csv")
    with pytest.raises(ConfigError, match=r"replace or remove comparison\.csv, which no run"):
        evaluate(experiment)
    assert (experiment.out / "comparison.csv").read_text() == "of the user"
