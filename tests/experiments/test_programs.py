import os
import signal
from functools import partial

import pytest

from analogmed.foundation.errors import AnalogmedError


@pytest.fixture(scope="module")
def programs(program):
    return program("experiments", "_programs")


def inverse(number):
    return 1 / number


def killed(number, *, folder, times):
    """Return the square of a number; of 2, only after the process was killed some times."""
    marks = list(folder.iterdir())
    if number == 2 and len(marks) < times:
        (folder / str(len(marks))).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def test_one_process_computes_in_the_order_of_the_items_until_an_error(programs):
    found = programs.in_processes(inverse, [2, 4, 0, 8], 1)
    assert (next(found), next(found)) == (0.5, 0.25)
    with pytest.raises(ZeroDivisionError):
        next(found)


@pytest.mark.slow
def test_the_item_of_a_killed_process_is_computed_again(programs, tmp_path):
    run = partial(killed, folder=tmp_path, times=1)
    with pytest.warns(UserWarning, match=r"^2: its process was ended by SIGKILL.*computed again"):
        assert sorted(programs.in_processes(run, [1, 2, 3], 2)) == [1, 4, 9]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:2. its process")
def test_an_item_whose_processes_are_killed_twice_ends_the_work(programs, tmp_path):
    run = partial(killed, folder=tmp_path, times=2)
    with pytest.raises(AnalogmedError, match=r"^2: WorkerDied"):
        list(programs.in_processes(run, [2], 2))
