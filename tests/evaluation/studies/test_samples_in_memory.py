"""Studies of sets beyond the cache hold the samples of one block of cases at a time."""

import weakref
from dataclasses import replace

import pytest

from analogmed.config import SweepConfig
from analogmed.evaluation.session import Cases
from analogmed.evaluation.studies.mitigation.compute import (
    MitigationCompute,
    inputs_of_units,
    units_of_network,
)
from analogmed.evaluation.studies.uncertainty.compute import UncertaintyCompute, UncertaintyPlan
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig, UncertaintyConfig
from analogmed.training import load_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*was trained.*for another chip")


class Reads:
    """Reader of a task that registers how many of its samples exist at once."""

    def __init__(self, read):
        self._read, self._samples, self.most = read, [], 0

    def __call__(self, case):
        sample = self._read(case)
        self._samples.append(weakref.ref(sample))
        self.most = max(self.most, sum(each() is not None for each in self._samples))
        return sample


def uncertainty(settings, task, checkpoint):
    config = UncertaintyConfig(**settings)
    unit = UncertaintyPlan(config, task, [checkpoint]).dice(checkpoint)
    return UncertaintyCompute(config, task), unit


def mitigation(settings, task, checkpoint):
    config = MitigationConfig(images=1, **settings)
    costs, _ = units_of_network(checkpoint, config, inputs_of_units(config, task))
    return MitigationCompute(config, task), costs


@pytest.mark.parametrize("study", [uncertainty, mitigation])
def test_samples_beyond_the_cache_are_read_when_they_are_needed(
    study, tiny_task, tiny_digital, monkeypatch
):
    monkeypatch.setattr("analogmed.evaluation.session._CACHE_BYTES", 0)
    monkeypatch.setattr("analogmed.evaluation.studies.uncertainty.passes._BLOCK_BYTES", 1)
    loaded = tiny_task.load()
    reads, cases = Reads(loaded.read), (*loaded.train, *loaded.validation, *loaded.test)
    task = replace(loaded, read=reads, test=cases, validation=cases)
    sweep = SweepConfig(chips=1, times_s=(0.0,))
    settings = {"task": tiny_task, "checkpoints": (tiny_digital,), "sweep": sweep}
    compute, unit = study(settings, task, load_checkpoint(tiny_digital))
    compute(unit, lambda: None)
    assert 1 <= reads.most <= 3 < len(cases)


def test_cases_are_cached_in_a_quarter_of_the_memory_that_is_free(tiny_task, monkeypatch):
    task = tiny_task.load()
    sample = task.read(task.train[0])
    size = sample.image.nbytes + sample.label.nbytes
    for free, n_reads in ((None, 3), (12 * size, 3), (8 * size, 4), (0, 6)):
        monkeypatch.setattr("analogmed.evaluation.session.free_bytes", lambda free=free: free)
        seen = []
        counted = replace(task, read=lambda case, seen=seen: seen.append(case) or sample)
        cases = Cases(counted, [replace(task.train[0], case_id=name) for name in "abc"])
        for _ in range(2):
            assert len(list(cases)) == 3
        assert len(seen) == n_reads
