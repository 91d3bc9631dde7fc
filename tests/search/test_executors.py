import multiprocessing
import os
import signal
from functools import partial

import pytest

from analogmed.foundation.errors import AnalogmedError, DataError
from analogmed.models import Genotype, Level
from analogmed.search import executors
from analogmed.search.executors import Processes
from analogmed.search.ledger import Claim


def network(channels):
    return Genotype((Level("A", channels, 3),))


class Killed:
    """Kills its process at networks of 4 channels once, and of 8 channels always."""

    def __init__(self, folder):
        self.folder = folder

    def evaluate(self, genotype, folder):
        channels = genotype.levels[0].channels
        marker = self.folder / str(channels)
        if channels == 8 or (channels == 4 and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if channels == 16:
            raise DataError("the scan is damaged")
        return {"dice_1d": channels / 10}


def never_starts():
    os._exit(1)


@pytest.fixture
def forked(monkeypatch):
    """Child processes by fork, which start at once; those of a search import everything again."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(executors.multiprocessing, "get_context", lambda _: fork)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python warns of fork beside threads
def test_a_network_whose_process_is_killed_is_evaluated_once_more(forked, tmp_path):
    pool = Processes(2, partial(Killed, tmp_path))
    claims = [Claim(number, network(2 ** (number + 1))) for number in range(3)]
    outcomes = {}
    try:
        with pytest.warns(UserWarning, match=r"trial \d: its process was killed"):
            pool.submit(claims[0], tmp_path)
            pool.submit(claims[1], tmp_path)
            for claim in (claims[2], None):
                outcome = pool.next()
                outcomes[outcome.claim.number] = outcome
                if claim:
                    pool.submit(claim, tmp_path)
            outcome = pool.next()
            outcomes[outcome.claim.number] = outcome
        assert [outcomes[number].metrics for number in range(3)] == [
            {"dice_1d": 0.2},
            {"dice_1d": 0.4},
            {},
        ]
        assert outcomes[2].failure.startswith("WorkerDied: its process was killed 2 times")
        pool.submit(Claim(3, network(2)), tmp_path)
        assert pool.next().metrics == {"dice_1d": 0.2}
    finally:
        pool.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_error_of_the_data_stops_the_search(forked, tmp_path):
    pool = Processes(1, partial(Killed, tmp_path))
    try:
        pool.submit(Claim(0, network(16)), tmp_path)
        assert isinstance(pool.next().stop, DataError)
    finally:
        pool.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_that_cannot_start_ends_the_search(forked, tmp_path):
    pool = Processes(1, never_starts)
    try:
        pool.submit(Claim(0, network(2)), tmp_path)
        with pytest.raises(AnalogmedError, match=r"ended while it started, .* '__main__'"):
            pool.next()
    finally:
        pool.close()
