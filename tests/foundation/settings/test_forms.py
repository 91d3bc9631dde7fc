"""Short forms of nested settings and of lists."""

from pathlib import Path

import pytest

from analogmed.config import Experiment, ModelConfig, SweepConfig, TaskConfig
from analogmed.foundation.errors import ConfigError
from analogmed.training.settings import TrainConfig


def test_a_name_and_a_mapping_stand_for_nested_settings():
    config = Experiment(task="lgg", sweep={"chips": 2, "times_s": [0, 60]})
    assert config.task == TaskConfig("lgg")
    assert config.sweep == SweepConfig(chips=2, times_s=(0.0, 60.0))
    assert TrainConfig(model={"name": "unet", "options": {"features": 4}}).model == ModelConfig(
        "unet", {"features": 4}
    )


def test_one_value_stands_for_a_list():
    config = Experiment(checkpoints="runs/lgg", metrics="hd95", digital_layers="head*")
    assert config.checkpoints == (Path("runs/lgg"),)
    assert config.metrics == ("hd95",)
    assert config.digital_layers == ("head*",)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sweep": 5}, "sweep: expected SweepConfig, a mapping of its fields, got int"),
        ({"task": 5}, "task: expected TaskConfig, a mapping of its fields or a name, got int"),
        ({"sweep": {"chip": 5}}, "sweep: unknown field 'chip'; did you mean 'chips'"),
    ],
)
def test_another_value_is_refused(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Experiment(**given)


def test_times_are_numbers_or_texts_with_a_unit():
    assert SweepConfig(times_s=("1 day", 60)).times_s == (60.0, 86_400.0)
    assert SweepConfig(times_s="1 day") == SweepConfig(times_s=86_400.0)
