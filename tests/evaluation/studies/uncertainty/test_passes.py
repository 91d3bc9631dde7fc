from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from analogmed.config import SweepConfig
from analogmed.evaluation.passes import Pass
from analogmed.evaluation.studies.uncertainty.passes import (
    DropoutNetwork,
    _blocks,
    has_dropout,
    maps_of,
    passes_of,
    predictions,
)
from analogmed.evaluation.studies.uncertainty.settings import UncertaintyConfig
from analogmed.foundation.errors import NonFiniteError
from analogmed.training import load_checkpoint


def predict(one, sample, task, config):
    ((_, prob),) = predictions(one, [sample], task, config)
    return prob


@pytest.fixture(scope="module")
def config(tiny_task):
    return UncertaintyConfig(
        task=tiny_task, sweep=SweepConfig(chips=2, times_s=(0.0, 86_400.0), reads=2)
    )


@pytest.fixture(scope="module")
def task(tiny_task):
    return tiny_task.load()


@pytest.fixture(scope="module")
def samples(task):
    return [task.read(case) for case in task.test]


@pytest.fixture(scope="module")
def checkpoint(tiny_digital):
    return load_checkpoint(tiny_digital)


def network_with_dropout(p):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout(p), nn.Conv2d(8, 1, 3)
    ).eval()


def nothing(*_):
    return None


def test_passes_of_chips_are_all_reads_at_all_times(checkpoint, config, task):
    found = [(p.chip, p.time_s, p.read) for p in passes_of("chips", [checkpoint], config, task)()]
    assert found == [(c, t, r) for c in range(2) for t in (0.0, 86_400.0) for r in range(2)]


@pytest.mark.slow
def test_maps_of_streamed_passes_are_those_of_all_passes_kept(checkpoint, config, task, samples):
    make = passes_of("chips", [checkpoint], config, task)
    kept = {}
    for one in make():
        for sample in samples:
            key = (one.time_s, sample.case.case_id)
            kept.setdefault(key, []).append(predict(one, sample, task, config).numpy())
    found = list(maps_of(make, samples, task, config, nothing))
    assert {(time_s, s.case.case_id) for time_s, s, _ in found} == set(kept)
    for time_s, sample, maps in found:
        probs = np.stack(kept[time_s, sample.case.case_id])[:, :, 0].astype(float)
        by_chip = probs.reshape(2, 2, *probs.shape[1:])
        within = by_chip.var(axis=1, ddof=1).mean(0)
        assert maps.mean[:, 0] == pytest.approx(probs.mean(0), abs=1e-6)
        assert maps.read_variance == pytest.approx(within, abs=1e-6)
        between = by_chip.mean(1).var(axis=0, ddof=1) - within / 2
        assert maps.chip_variance == pytest.approx(between, abs=1e-6)


@pytest.mark.slow
def test_a_case_has_the_same_maps_whatever_cases_come_with_it(checkpoint, config, task, samples):
    make = passes_of("chips", [checkpoint], config, task)
    alone = [maps for _, _, maps in maps_of(make, samples[1:], task, config, nothing)]
    together = maps_of(make, samples, task, config, nothing)
    case = samples[1].case.case_id
    with_others = [maps for _, sample, maps in together if sample.case.case_id == case]
    for one, other in zip(alone, with_others, strict=True):
        assert (one.mean == other.mean).all() and (one.variance == other.variance).all()


def test_blocks_take_up_to_two_gigabytes():
    """Two maps of 4 bytes at three times: 2**30 bytes a case, of which two fill a block."""
    size = 2**30 // (4 * 2 * 3)
    cases = [SimpleNamespace(label=SimpleNamespace(size=size), number=n) for n in range(5)]
    blocks = [[case.number for case in block] for block in _blocks(cases, 2, 3)]
    assert blocks == [[0, 1], [2, 3], [4]]


@pytest.mark.slow
def test_blocks_of_cases_change_nothing(checkpoint, config, task, samples, monkeypatch):
    make = passes_of("chips", [checkpoint], config, task)
    whole = {
        (t, s.case.case_id): m.mean for t, s, m in maps_of(make, samples, task, config, nothing)
    }
    monkeypatch.setattr("analogmed.evaluation.studies.uncertainty.passes._BLOCK_BYTES", 1)
    for time_s, sample, maps in maps_of(make, samples, task, config, nothing):
        assert (maps.mean == whole[time_s, sample.case.case_id]).all()


def test_a_deterministic_pass_is_the_digital_network(checkpoint, config, task, samples):
    (one,) = passes_of("deterministic", [checkpoint], config, task)()
    with torch.inference_mode():
        expected = torch.sigmoid(checkpoint.network(torch.from_numpy(samples[0].image)))
    assert torch.allclose(predict(one, samples[0], task, config), expected, atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_members(checkpoint, tiny_hwa, config, task, samples):
    members = [checkpoint, load_checkpoint(tiny_hwa)]
    make = passes_of("ensemble", members, config, task)
    (_, _, maps), *_ = maps_of(make, samples[:1], task, config, nothing)
    singles = [predict(one, samples[0], task, config).numpy() for one in make()]
    assert maps.mean == pytest.approx(np.mean(singles, 0), abs=1e-6)
    assert passes_of("ensemble", members[:1], config, task) is None


def test_a_network_without_dropout_is_left_out_by_name(checkpoint, config, task):
    with pytest.warns(UserWarning, match=r"safetensors: mc_dropout is left out, unet has no"):
        assert passes_of("mc_dropout", [checkpoint], config, task) is None


def test_dropout_can_be_put_in_and_leaves_the_network_as_it_was(checkpoint, config, task, samples):
    make = passes_of("mc_dropout", [checkpoint], replace(config, dropout=0.2), task)
    first, second = ([predict(one, samples[0], task, config) for one in make()] for _ in range(2))
    assert len(first) == config.passes
    assert not torch.equal(first[0], first[1])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(layer._forward_pre_hooks for layer in checkpoint.network.modules())


def test_dropout_is_active_while_batchnorm_evaluates():
    network = network_with_dropout(0.5)
    before = network[1].running_mean.clone()
    images = torch.randn(2, 1, 8, 8)
    dropped = DropoutNetwork(network, 0.0, seed=1)
    with torch.no_grad():
        assert not torch.equal(dropped(images), dropped(images))
        dropped.restart("case")
        first = dropped(images)
        dropped.restart("case")
        assert torch.equal(first, dropped(images))
    assert torch.equal(network[1].running_mean, before)
    assert not any(module.training for module in network.modules())


def test_dropout_does_not_touch_the_random_numbers_of_others():
    network = DropoutNetwork(network_with_dropout(0.5), 0.1, seed=1)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    network(torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.rand(3), expected)


def test_dropout_scales_so_that_the_mean_stays():
    layer = nn.Sequential(nn.Identity(), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1, bias=False)).eval()
    images = torch.rand(1, 1, 64, 64)
    dropped = DropoutNetwork(layer, 0.3, seed=0)
    with torch.no_grad():
        mean = torch.stack([dropped(images) for _ in range(300)]).mean().item()
        assert mean == pytest.approx(layer(images).mean().item(), rel=0.02)


def test_a_dropout_ratio_of_zero_is_no_dropout():
    assert has_dropout(network_with_dropout(0.1))
    assert not has_dropout(network_with_dropout(0.0))


def test_a_network_that_puts_out_nan_is_refused_with_the_case(config, task, samples):
    broken = Pass(0.0, 0, 0, lambda images: images[:, :1] * float("nan"))
    with pytest.raises(NonFiniteError, match=rf"case {samples[0].case.case_id}: .*NaN or Inf"):
        predict(broken, samples[0], task, config)
