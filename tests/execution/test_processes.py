import multiprocessing
import os
import signal
from dataclasses import dataclass
from functools import partial

import computes
import pytest

from analogmed.execution import processes
from analogmed.execution.executors import make_executor, outcomes_of
from analogmed.execution.processes import ProcessExecutor
from analogmed.execution.settings import EngineConfig
from analogmed.execution.unit import Unit
from analogmed.foundation.errors import AnalogmedError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads


@dataclass(frozen=True)
class Number(Unit):
    number: int


def unit(number):
    return Number({"number": number}, f"unit {number}", 2, number)


class Killed:
    """Kills its process at unit 4 once, and at unit 8 always."""

    fatal = (DataError,)

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, unit, step):
        step()
        marker = self.folder / str(unit.number)
        if unit.number == 8 or (unit.number == 4 and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if unit.number == 16:
            raise DataError("the scan is damaged")
        if unit.number == 32:
            raise RuntimeError("a credential: s3://user:secret@host/x")
        step()
        return unit.number / 10


def never_starts(connection, *_):
    os._exit(1)


@pytest.fixture
def forked(monkeypatch):
    """Child processes by fork, which start at once and know the classes of this module."""
    monkeypatch.setattr(processes, "_CONTEXT", multiprocessing.get_context("fork"))


def closing_after(pool, units):
    try:
        return {outcome.unit.number: outcome for outcome in outcomes_of(pool, units)}
    finally:
        pool.close()


def test_a_unit_whose_process_is_killed_is_computed_once_more(forked, tmp_path):
    steps = []
    make = partial(Killed, tmp_path)
    pool = ProcessExecutor(2, make, on_step=lambda unit: steps.append(unit.number))
    with pytest.warns(UserWarning, match=r"unit \d: its process was ended by SIGKILL"):
        outcomes = closing_after(pool, map(unit, (2, 4, 8, 2)))
    assert {number: outcome.value for number, outcome in outcomes.items()} == {
        2: 0.2,
        4: 0.4,
        8: None,
    }
    assert outcomes[8].failure.startswith("WorkerDied: its process was ended by SIGKILL")
    assert outcomes[8].failure.endswith("2 times")
    assert steps.count(2) == 4


def test_errors_of_one_unit_are_failures_and_those_of_all_units_stops(forked, tmp_path):
    outcomes = closing_after(ProcessExecutor(1, partial(Killed, tmp_path)), [unit(32), unit(16)])
    assert outcomes[32].failure.startswith("RuntimeError: a credential: s3://")
    assert "secret" not in outcomes[32].failure
    assert isinstance(outcomes[16].stop, DataError)


def test_a_compute_that_cannot_be_made_is_an_error_of_all_units(forked):
    def make():
        raise DataError("no such folder")

    outcomes = closing_after(ProcessExecutor(1, make), [unit(2)])
    assert isinstance(outcomes[2].stop, DataError)


def test_a_process_that_cannot_start_is_an_error_that_says_why(forked, monkeypatch):
    monkeypatch.setattr(processes, "worker_loop", never_starts)
    with pytest.raises(AnalogmedError, match=r"ended with status 1 while it started, .*__main__"):
        closing_after(ProcessExecutor(1, dict), [unit(2)])


def test_processes_end_when_the_executor_is_closed(forked, tmp_path):
    pool = ProcessExecutor(2, partial(Killed, tmp_path))
    pool.submit(unit(2))
    pool.submit(unit(2))
    children = [one.process for one in pool._processes]
    assert len(children) == 2
    pool.close()
    assert not any(child.is_alive() for child in children)


def test_one_worker_computes_in_this_process_in_order(tmp_path):
    steps = []
    executor = make_executor(
        EngineConfig(), partial(Killed, tmp_path), on_step=lambda unit: steps.append(unit.number)
    )
    found = [outcome.value for outcome in outcomes_of(executor, map(unit, (2, 1, 3)))]
    assert found == [0.2, 0.1, 0.3]
    assert steps == [2, 2, 1, 1, 3, 3]


@pytest.mark.slow
def test_workers_have_the_environment_of_the_moment_when_they_start(monkeypatch):
    """On Linux, the process that they are copied from has that of the first start."""
    found = []
    for value in ("1", "2"):
        monkeypatch.setenv("ANALOGMED_VALUE", value)
        pool = ProcessExecutor(1, partial(computes.environment_of, "ANALOGMED_VALUE"))
        found.append(closing_after(pool, [unit(2)])[2].value)
    assert found == ["1", "2"]
    assert "PYTHONSAFEPATH" not in os.environ
