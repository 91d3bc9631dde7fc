import re
import sys
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from analogmed.analog import Hardware
from analogmed.config import Experiment, SweepConfig
from analogmed.evaluation.studies.robustness.failures import failure_table
from analogmed.evaluation.studies.robustness.units import Plan
from analogmed.evaluation.studies.robustness.worker import Worker
from analogmed.evaluation.summaries.runs import notes_of
from analogmed.execution.compute import evaluate
from analogmed.execution.plans import StoringCompute
from analogmed.execution.store import Store
from analogmed.execution.threads import one_thread
from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.notes import RESULT_NOTES
from analogmed.tables.results import COLUMNS
from analogmed.training import load_checkpoint, save_checkpoint

NETWORKS = '''
import torch
from analogmed.models.unet import UNet

class Hungry(UNet):
    """Asks for more memory than any machine has, for more images than it can take."""

    def forward(self, images):
        if len(images) > {most}:
            torch.empty(2**58, dtype=torch.uint8)
        return super().forward(images)
'''


@pytest.fixture
def experiment(tiny_task, tiny_digital):
    return Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=1, times_s=(0.0, DAY_S)),
        batch_size=4,
    )


@pytest.fixture
def hungry(experiment, tmp_path, monkeypatch):
    """The experiment with a network that takes only so many images at once."""

    def make(most):
        name = f"hungry_networks_{most}"
        (tmp_path / f"{name}.py").write_text(NETWORKS.format(most=most))
        monkeypatch.syspath_prepend(tmp_path)
        trained = load_checkpoint(experiment.checkpoints[0])
        info = replace(trained.info, model=f"{name}:Hungry")
        path = save_checkpoint(tmp_path / f"{name}.safetensors", trained.network, info)
        return replace(experiment, checkpoints=(path,), factories=(info.model,))

    yield make
    for name in [name for name in sys.modules if name.startswith("hungry_networks_")]:
        del sys.modules[name]


def unit_of(experiment, chip):
    (path,) = experiment.checkpoints
    checkpoint = load_checkpoint(path, factories=experiment.factories)
    plan = Plan(experiment, experiment.task.load(), [checkpoint])
    return plan.digital(checkpoint) if chip is None else plan.chip(checkpoint, chip)


@pytest.mark.slow
def test_a_finished_unit_is_in_the_store(experiment, tmp_path):
    store, counted = Store(tmp_path), []
    worker = StoringCompute(Worker(experiment), store)
    for chip, passes in ((None, 1), (0, 2)):
        unit = unit_of(experiment, chip)
        counted.clear()
        assert evaluate(worker, unit, lambda: counted.append(1)).failure == ""
        table = store.read(unit.key).table
        assert len(table) == len(counted) == passes * len(experiment.task.load().test)
        assert (table["chip"].isna() if chip is None else table["chip"] == chip).all()


@pytest.mark.slow
def test_a_worker_gives_a_unit_the_same_bytes_whatever_it_did_before(
    experiment, tiny_hwa, tmp_path
):
    other = replace(experiment, checkpoints=(tiny_hwa,))
    unit = unit_of(experiment, 0)
    alone, busy = Store(tmp_path / "alone"), Store(tmp_path / "busy")
    evaluate(StoringCompute(Worker(experiment), alone), unit)
    worker = StoringCompute(Worker(experiment), busy)
    for before in (unit_of(other, 0), unit_of(experiment, None), unit):
        evaluate(worker, before)
    name = f"units/{unit.key}.parquet"
    assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "busy" / name).read_bytes()


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_threads(experiment, tmp_path):
    units = [unit_of(experiment, chip) for chip in (None, 0)]
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            worker = StoringCompute(Worker(experiment), Store(tmp_path / str(threads)))
            for unit in units:
                evaluate(worker, unit)
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for unit in units:
        name = f"units/{unit.key}.parquet"
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("chip", [None, 0])
def test_out_of_memory_halves_the_batch_once_and_says_so(hungry, chip, tmp_path):
    experiment, store = hungry(most=2), Store(tmp_path / "store")
    unit = unit_of(experiment, chip)
    outcome = evaluate(StoringCompute(Worker(experiment), store), unit)
    assert outcome.failure == ""
    (warning,) = outcome.warnings
    assert re.search(r"Hungry digital, .*out of memory; trying batch_size 2", warning)
    assert store.read(unit.key).table["value"].notna().all()
    noted = store.read(unit.key).table["note"]
    assert noted.str.endswith("out of memory, batch_size 2").all()
    assert notes_of(store.read(unit.key).table).isin(RESULT_NOTES).all()
    metadata = pq.read_metadata(tmp_path / "store" / "units" / f"{unit.key}.parquet").metadata
    assert metadata[b"analogmed.batch_size"] == b"2"


def test_out_of_memory_with_half_the_batch_too_is_a_failure(hungry, tmp_path):
    experiment, store = hungry(most=1), Store(tmp_path / "store")
    unit = unit_of(experiment, None)
    outcome = evaluate(StoringCompute(Worker(experiment), store), unit)
    assert "trying batch_size 2" in outcome.warnings[0]
    assert outcome.failure.startswith("RuntimeError: ")
    assert "allocate memory" in outcome.failure
    assert store.keys() == set()


def test_a_single_image_cannot_be_halved(hungry, tmp_path):
    experiment = replace(hungry(most=0), batch_size=1)
    outcome = evaluate(
        StoringCompute(Worker(experiment), Store(tmp_path / "s")), unit_of(experiment, None)
    )
    assert "allocate memory" in outcome.failure


def test_an_error_of_all_units_stops(experiment, tmp_path):
    reram = replace(experiment, hardware=Hardware("reram"))
    outcome = evaluate(StoringCompute(Worker(reram), Store(tmp_path)), unit_of(reram, 0))
    assert isinstance(outcome.stop, ConfigError)
    assert "has no values at t0" in str(outcome.stop)


def test_a_network_that_was_replaced_since_the_plan_is_refused(experiment, tiny_hwa, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(experiment.checkpoints[0].read_bytes())
    unit = unit_of(replace(experiment, checkpoints=(path,)), None)
    path.write_bytes(tiny_hwa.read_bytes())
    outcome = evaluate(StoringCompute(Worker(experiment), Store(tmp_path / "s")), unit)
    assert isinstance(outcome.stop, CheckpointError)
    assert f"{path}: the file differs from the one" in str(outcome.stop)


@pytest.mark.slow
def test_rows_of_a_failure_are_those_of_the_unit_without_a_value(experiment, tmp_path):
    store, task = Store(tmp_path), experiment.task.load()
    experiment = replace(experiment, metrics=("dice", "nsd"))
    worker = StoringCompute(Worker(experiment), store)
    info = load_checkpoint(experiment.checkpoints[0]).info
    address = [name for name in COLUMNS if name not in ("value", "note", "unit")]
    for chip in (None, 0):
        outcome = evaluate(worker, unit_of(experiment, chip))
        done = store.read(outcome.unit.key).table
        failed = failure_table(replace(outcome, failure="E: e"), info, experiment, task)
        pd.testing.assert_frame_equal(failed[address], done[address])
        assert failed["value"].isna().all()
        assert set(failed["note"]) == {"E: e"}
        pd.testing.assert_series_equal(failed["unit"], done["unit"])


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
