"""The last layer of a network is adapted to the first beats of a patient, and others are scored."""

import numpy as np
import pytest
import torch
from torch import nn

from analogmed.data import load_task
from analogmed.foundation.errors import ConfigError

COUNT = 12


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "patient_adaptation")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_task("phantom_ecg", root=tmp_path_factory.mktemp("ecg"), phantom_patients=8)


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    return nn.Linear(3, 4)


@pytest.fixture(scope="module")
def beats(experiment, task):
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(4, (40, 1), generator=generator).numpy().astype(np.uint8)
    features = torch.randn(40, 3, generator=generator, dtype=torch.double)
    return [experiment.Beats(case, features, label) for case in task.test]


def test_an_adapted_layer_is_at_the_minimum_of_loss_and_penalty(experiment, task, layer, beats):
    own = experiment.adapted(layer, beats[0], 0.1, task, COUNT)
    logits = own(beats[0].features[:COUNT])
    target = torch.from_numpy(beats[0].label[:COUNT, 0]).long()
    changes = [
        now - before for now, before in zip(own.parameters(), layer.parameters(), strict=True)
    ]
    loss = nn.functional.cross_entropy(logits, target)
    (loss + 0.1 * sum(change.square().sum() for change in changes)).backward()
    assert all(each.grad.abs().max() < 1e-4 for each in own.parameters())
    assert max(change.abs().max() for change in changes) > 0.1


def test_a_strong_penalty_leaves_the_layer_as_it_was(experiment, task, layer, beats):
    own = experiment.adapted(layer, beats[0], 1e6, task, COUNT)
    torch.testing.assert_close(own.weight.float(), layer.weight, atol=1e-5, rtol=0)


def test_only_beats_after_the_first_ones_are_scored(experiment, task, layer, beats):
    config = experiment.AdaptationConfig(beats=COUNT).for_task(task)
    before = experiment.contributions(beats, layer, None, task, config)
    others = [
        experiment.Beats(each.case, each.features.clone(), each.label.copy()) for each in beats
    ]
    for each in others:
        each.features[:COUNT] = 0
        each.label[:COUNT] = 0
    after = experiment.contributions(others, layer, None, task, config)
    assert before["value"].tolist() == after["value"].tolist()
    others[0].features[COUNT:] *= -1
    changed = experiment.contributions(others, layer, None, task, config)
    assert before["value"].tolist() != changed["value"].tolist()


def test_a_network_that_ends_without_a_linear_layer_is_refused(experiment):
    network = nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 3, 1))
    with pytest.raises(ConfigError, match=r"last layer is nn\.Linear .* got Conv1d '1'"):
        experiment.last_layer(network)
