import torch
from torch import nn

from analogmed.analog import Chip, Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.config import SweepConfig
from analogmed.evaluation.passes import Pass, chip_passes, chip_seed
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
