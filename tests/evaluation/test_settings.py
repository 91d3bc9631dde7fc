from dataclasses import replace

import pytest

from analogmed.config import Experiment, SweepConfig
from analogmed.foundation.errors import ConfigError


def test_the_readings_of_a_sweep_are_all_reads_at_each_time():
    sweep = SweepConfig(times_s=("1 day", 0), reads=2)
    assert sweep.readings == ((0.0, 0), (0.0, 1), (86_400.0, 0), (86_400.0, 1))


def test_windows_of_signals_have_larger_batches_by_default(tiny_task):
    task = tiny_task.load()
    signals = replace(task, spatial_dims=1)
    assert Experiment().for_task(task).batch_size == Experiment().images_per_pass == 8
    assert Experiment().for_task(signals).batch_size == 256
    assert Experiment(batch_size=8).for_task(signals).images_per_pass == 8
    with pytest.raises(ConfigError, match=r"batch_size must be 1 or more, got 0"):
        Experiment(batch_size=0)
