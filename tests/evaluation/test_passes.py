from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from analogmed.analog import Chip, Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.config import Experiment, SweepConfig
from analogmed.data import Case, Sample, Task
from analogmed.evaluation.passes import Pass, chip_passes, chip_seed, predict_case, predict_cases
from analogmed.foundation.errors import NonFiniteError
from analogmed.foundation.time_constants import DAY_S


def test_chip_passes_are_the_reads_of_each_chip_at_all_times():
    torch.manual_seed(0)
    images = torch.randn(2, 3)
    analog = convert(nn.Sequential(nn.Linear(3, 4)), rpu_config_of(Hardware()))
    calibrate(analog, [images])
    sweep = SweepConfig(chips=5, times_s=(0.0, DAY_S), reads=2)
    passes = list(chip_passes(analog, sweep, model="m", seed=7, chips=[3, 1]))
    addresses = [(one.chip, one.time_s, one.read) for one in passes]
    assert addresses == [(c, t, r) for c in (3, 1) for t in (0.0, DAY_S) for r in (0, 1)]
    for one in passes:
        read = Chip(analog, seed=chip_seed(7, "m", one.chip)).at(one.time_s, one.read)
        for case in ("a", "b"):
            one.start(case)
            assert torch.equal(one.network(images), read.restart(case)(images))


def test_a_pass_without_noise_starts_without_a_restart():
    network = nn.Identity()
    Pass(float("nan"), 0, 0, network).start("case")
    started = []
    Pass(0.0, 0, 0, network, started.append).start("case")
    assert started == ["case"]


def _sample(case_id, seed):
    image = np.random.default_rng(seed).normal(size=(1, 3, 4, 4)).astype(np.float32)
    return Sample(image, np.zeros((1, 4, 4), np.uint8), (1.0, 1.0), Case(case_id, case_id, (), ()))


@pytest.fixture
def task():
    """A task without files, whose window is the size of the samples."""
    return Task(
        *("none", Path(), 2, ("r", "g", "b"), ("class",), (4, 4), "px"),
        *((), (), (), lambda case: _sample(case.case_id, 0)),
    )


def test_the_noise_of_a_pass_restarts_at_the_first_case_of_each_prediction(task):
    torch.manual_seed(0)
    samples = [_sample("a", 1), _sample("b", 2)]
    images = [torch.from_numpy(sample.image) for sample in samples]
    analog = convert(nn.Sequential(nn.Conv2d(3, 2, 1)), rpu_config_of(Hardware()))
    calibrate(analog, [torch.cat(images)])
    sweep = SweepConfig(chips=1, times_s=(0.0,))
    (one,) = chip_passes(analog, sweep, model="m", seed=7, chips=[0])
    config = Experiment(batch_size=2)
    with torch.inference_mode():
        together = one.network.restart("a")(torch.cat(images))
        alone = one.network.restart("b")(images[1])
    assert torch.equal(torch.cat(predict_cases(one, samples, task, config)), together)
    assert torch.equal(predict_case(one, samples[1], task, config), alone)
    assert not torch.equal(together[1:], alone)


def test_a_logit_that_is_no_number_is_refused_with_its_case(task):
    first, second = _sample("a", 1), _sample("b", 2)
    second = replace(second, image=np.full_like(second.image, np.nan))
    with pytest.raises(NonFiniteError, match=r"^case b: .*48 NaN or Inf logits"):
        predict_cases(Pass.digital(nn.Identity()), [first, second], task, Experiment())


def test_a_pass_without_a_chip_has_no_time():
    one = Pass.digital(nn.Identity(), 3)
    assert np.isnan(one.time_s)
    assert (one.chip, one.read, one.restart) == (0, 3, None)
