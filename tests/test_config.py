import dataclasses
import math

import pytest
import yaml

from analogmed.analog import PRESETS, Hardware
from analogmed.config import (
    CalibrationConfig,
    Experiment,
    ModelConfig,
    SweepConfig,
    TaskConfig,
    to_plain,
    to_yaml,
)
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import DAY_S


@pytest.mark.parametrize("time_s", [-1.0, math.nan, math.inf])
def test_impossible_times_are_refused_by_value(time_s):
    with pytest.raises(ConfigError, match=rf"times_s.*0 s or more and finite.*{time_s!r}"):
        SweepConfig(times_s=(0.0, time_s))


def test_times_are_sorted_and_told_once():
    assert SweepConfig(times_s=(DAY_S, 0, DAY_S, 3600)).times_s == (0.0, 3600.0, DAY_S)


def test_no_time_at_all_is_refused():
    with pytest.raises(ConfigError, match="times_s is empty"):
        SweepConfig(times_s=())


@pytest.mark.parametrize(
    ("config_class", "name", "value"),
    [
        (SweepConfig, "chips", 0),
        (SweepConfig, "reads", -1),
        (CalibrationConfig, "images", 0),
        (CalibrationConfig, "quantile", 0.0),
        (CalibrationConfig, "quantile", 1.01),
        (Experiment, "batch_size", 0),
        (Experiment, "tolerance", -0.1),
        (Experiment, "tolerance", math.nan),
    ],
)
def test_settings_outside_their_range_are_refused_by_name_and_value(config_class, name, value):
    with pytest.raises(ConfigError, match=rf"{name}.*got {value!r}"):
        config_class(**{name: value})


def test_the_primary_metric_of_a_task_comes_first_and_none_stands_twice():
    task = TaskConfig(options={"phantom_patients": 3, "phantom_size": 32}).load()
    assert Experiment().for_task(task).metrics == ("dice",)
    assert Experiment(metrics=("hd95", "nsd", "hd95")).metrics == ("hd95", "nsd")
    assert Experiment(metrics=("nsd", "dice")).for_task(task).metrics == ("dice", "nsd")
    hd95 = dataclasses.replace(task, primary_metric="hd95")
    assert Experiment(metrics=("nsd",)).for_task(hd95).metrics == ("hd95", "nsd")


def test_an_option_with_a_setting_of_its_own_is_refused():
    with pytest.raises(ConfigError, match=r"write task\.size instead"):
        TaskConfig(options={"size": 3})
    with pytest.raises(ConfigError, match="in_channels follows from the task"):
        ModelConfig(options={"in_channels": 3})


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().seed = 1


def test_yaml_lists_every_setting_in_the_order_of_the_fields():
    content = yaml.safe_load(to_yaml(Experiment()))
    assert list(content) == [field.name for field in dataclasses.fields(Experiment)]
    assert content["hardware"] == {"preset": "pcm", **to_plain(PRESETS["pcm"])}
    assert content["sweep"]["times_s"][:2] == [0.0, 1.0]


def test_plain_form_knows_no_paths_and_tuples(tmp_path):
    plain = to_plain(Experiment(out=tmp_path, hardware=Hardware("analognas")))
    assert plain["out"] == str(tmp_path)
    assert plain["hardware"]["tile_size"] == [256, 255]
