"""Layers that stay digital in hardware-aware training, from the loop to the evaluation."""

import warnings
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from analogmed.analog import coverage, left_digital
from analogmed.config import Experiment, SweepConfig
from analogmed.evaluation import evaluate
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.preparation import prepare
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.foundation.time_constants import DAY_S
from analogmed.training import OptimizerConfig, TrainConfig, load_checkpoint, train
from analogmed.training.distributed import Ranks
from analogmed.training.preparation import set_up

PATTERNS = ("encoder1", "*conv4", "head")
LAYERS = ("encoder1.conv1", "encoder1.conv2", "upconv4", "head")


@pytest.fixture(scope="module")
def mixed(tiny_task, tiny_digital, tmp_path_factory):
    """A network trained for the default chip, with some layers digital."""
    return train(
        TrainConfig(
            task=tiny_task,
            training="hwa",
            init=tiny_digital,
            digital_layers=PATTERNS,
            epochs=1,
            validation_chips=1,
            optimizer=OptimizerConfig(learning_rate=1e-3),
            out=tmp_path_factory.mktemp("mixed"),
        )
    )


@pytest.fixture
def experiment(tiny_task, mixed, tmp_path):
    return Experiment(
        task=tiny_task,
        checkpoints=(mixed,),
        sweep=SweepConfig(chips=1, times_s=(DAY_S,)),
        examples=0,
        out=tmp_path,
    )


def results(experiment, *told):
    """Table of an evaluation, which warns of all this and of nothing else but digital layers."""
    with pytest.warns(UserWarning) as warned:
        table = evaluate(experiment).table
    others = [text for each in warned if "stays digital" not in (text := str(each.message))]
    assert len(others) == len(told)
    assert all(part in text for text, parts in zip(others, told, strict=True) for part in parts)
    return table


def test_the_checkpoint_keeps_the_names_of_the_layers_that_were_digital(mixed):
    found = load_checkpoint(mixed)
    assert set(found.info.digital_layers) == set(LAYERS)
    layers = {
        name
        for name, layer in found.network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    }
    assert found.input_ranges.keys() == layers - set(LAYERS)


def test_a_network_all_on_tiles_says_so_and_a_digital_one_says_nothing(tiny_hwa, tiny_digital):
    assert load_checkpoint(tiny_hwa).info.digital_layers == ()
    assert load_checkpoint(tiny_digital).info.digital_layers is None


def test_on_the_chip_a_network_is_what_it_was_in_training(mixed, experiment):
    checkpoint = load_checkpoint(mixed)
    analog = make_analog(checkpoint, experiment, experiment.task.load())
    assert set(left_digital(analog)) == set(LAYERS)
    for name, learned in checkpoint.input_ranges.items():
        assert torch.equal(analog.get_submodule(name).input_range, learned)


@pytest.mark.slow
def test_an_evaluation_follows_the_training_unless_it_is_told_otherwise(experiment, tmp_path):
    followed = results(experiment)
    asked = replace(experiment, digital_layers=LAYERS, out=tmp_path / "asked")
    pd.testing.assert_frame_equal(results(asked), followed)
    on_tiles = replace(experiment, digital_layers=(), out=tmp_path / "tiles")
    names = ", ".join(sorted(LAYERS))
    told = results(on_tiles, [f"was trained with {names} digital, here on tiles"])
    assert not told["value"].equals(followed["value"])


@pytest.mark.slow
def test_further_digital_layers_are_told_as_other_than_trained(experiment):
    further = replace(experiment, digital_layers=(*PATTERNS, "encoder2.conv1"))
    results(further, ["was trained with encoder2.conv1 on tiles, here digital"])


@pytest.mark.slow
def test_a_digital_twin_with_other_layers_on_tiles_is_told(experiment, tiny_digital, tmp_path):
    both = replace(experiment, checkpoints=(tiny_digital, *experiment.checkpoints))
    names = sorted(LAYERS)
    options = f"--digital_layers {' '.join(names)}"
    results(both, [f"has {', '.join(names)} digital", str(tiny_digital), options])
    results(replace(both, digital_layers=LAYERS, out=tmp_path / "same"))


@pytest.mark.parametrize(
    ("layers", "told"),
    [(LAYERS, []), ((), ["goes on with no layer"]), (PATTERNS[1:], ["with upconv4, head;"])],
    ids=["the same", "none", "fewer"],
)
def test_training_on_with_other_layers_digital_is_told(mixed, tiny_task, tmp_path, layers, told):
    config = TrainConfig(
        task=tiny_task, training="hwa", init=mixed, digital_layers=layers, out=tmp_path
    )
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        set_up(config, Ranks())
    assert len(warned) == len(told)
    for warning, text in zip(warned, told, strict=True):
        assert text in str(warning.message)
        assert all(name in str(warning.message) for name in LAYERS)


def test_a_look_at_single_layers_leaves_those_of_the_training_digital(experiment, tmp_path):
    config = SensitivityConfig(task=experiment.task, checkpoints=experiment.checkpoints)
    prepared = prepare(config, networks="one")
    config, task, (checkpoint,) = prepared.config, prepared.task, prepared.checkpoints
    assert set(config.digital_layers) == set(LAYERS)
    analog = make_analog(checkpoint, config, task)
    assert not set(LAYERS) & set(coverage(analog).analog_layers)
