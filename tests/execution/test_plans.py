import uuid
from dataclasses import dataclass, field

import pandas as pd
import pytest

from analogmed.execution.plans import Workers, run_plan
from analogmed.execution.settings import EngineConfig
from analogmed.execution.store import Store, UnitResult
from analogmed.execution.unit import Unit
from analogmed.foundation.errors import AnalogmedError, ConfigError


@dataclass
class Square:
    """Compute of the square of a number; some numbers raise an error."""

    errors: dict = field(default_factory=dict)
    fatal: tuple = (ConfigError,)
    done: list = field(default_factory=list)

    def __call__(self, unit, step):
        number = unit.description["number"]
        if number in self.errors:
            raise self.errors[number]
        self.done.append(number)
        step()
        return UnitResult(pd.DataFrame({"square": [number**2]}))


def units_of(*numbers):
    return [Unit({"number": number}, f"number {number}", 1) for number in numbers]


def sum_of(results, units):
    return sum(int(results[unit.key].table["square"].item()) for unit in units)


def squares(*numbers):
    units = units_of(*numbers)
    results = yield units
    return sum_of(results, units)


def growing():
    """Each round depends on the results of the last one, and repeats its units."""
    units = units_of(1)
    while True:
        results = yield units
        total = sum_of(results, units)
        if total > 30:
            return total
        units = units_of(*range(1, len(units) + 2))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def run(plan, compute, store, **options):
    return run_plan(plan, Workers(compute, Square, EngineConfig()), store, **options)


def test_rounds_depend_on_results_and_each_unit_is_computed_once(store):
    compute = Square()
    finished = run(growing(), compute, store)
    assert (finished.value, finished.units, finished.reused) == (1 + 4 + 9 + 16 + 25, 5, 0)
    assert compute.done == [1, 2, 3, 4, 5]
    again = Square()
    finished = run(growing(), again, store)
    assert (finished.value, finished.units, finished.reused) == (55, 5, 5)
    assert again.done == []
    assert finished.computed is not None


def test_a_unit_twice_in_a_round_is_computed_once(store):
    compute = Square()
    assert run(squares(3, 3), compute, store).value == 18
    assert compute.done == [3]


def test_an_interrupted_plan_says_what_is_stored_and_resumes(store):
    stopped = Square({3: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt, match=r"2 of 4 units are stored in .*Rerun the same"):
        run(squares(1, 2, 3, 4), stopped, store)
    compute = Square()
    finished = run(squares(1, 2, 3, 4), compute, store)
    assert (finished.value, finished.reused, compute.done) == (30, 2, [3, 4])


def test_restart_computes_stored_units_again(store):
    run(squares(1, 2), Square(), store)
    compute = Square()
    assert run(squares(1, 2), compute, store, restart=True).reused == 0
    assert compute.done == [1, 2]


def test_a_failure_ends_the_run_or_is_replaced(store):
    with pytest.raises(AnalogmedError, match="number 2: ValueError: no"):
        run(squares(1, 2), Square({2: ValueError("no")}), store)

    def replaced(outcome):
        assert outcome.failure == "ValueError: no"
        return UnitResult(pd.DataFrame({"square": [100]}))

    failing = Square({2: ValueError("no")})
    finished = run(squares(1, 2), failing, store, failed=replaced)
    assert (finished.value, finished.failures) == (101, ("number 2: ValueError: no",))
    with pytest.raises(AnalogmedError, match="all 1 units failed; first number 2"):
        run(squares(2), failing, store, failed=replaced)


def test_an_error_of_all_units_is_raised_as_it_is(store):
    error = ConfigError("wrong")
    with pytest.raises(ConfigError) as raised:
        run(squares(1, 2), Square({1: error}), store)
    assert raised.value is error


def test_a_store_in_memory_is_refused_for_several_processes():
    store = Store(f"memory://{uuid.uuid4().hex}")
    workers = Workers(Square(), Square, EngineConfig(workers=2))
    with pytest.raises(ConfigError, match="seen by one process only"):
        run_plan(squares(1), workers, store)
