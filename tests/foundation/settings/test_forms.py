"""Short forms of nested settings and of lists."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from analogmed.config import Experiment, ModelConfig, SweepConfig, TaskConfig
from analogmed.evaluation.studies.uncertainty.settings import UncertaintyConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.forms import (
    checks_arguments,
    expand_short_forms,
    settings_of,
    takes_keywords,
)
from analogmed.search.settings import SearchConfig
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


def test_a_path_is_given_as_text():
    assert Experiment(checkpoints=("a", Path("b"))).checkpoints == (Path("a"), Path("b"))
    assert SearchConfig(supernets={"lgg": "runs/super"}).supernets == {"lgg": Path("runs/super")}
    config = TrainConfig(init="runs/lgg", out="runs/hwa")
    assert (config.init, config.out) == (Path("runs/lgg"), Path("runs/hwa"))
    assert Experiment(out="runs/eval").folder == Path("runs/eval")


@dataclass(frozen=True)
class Inner:
    name: str = "a"
    rows: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Outer:
    made: Inner = field(default_factory=Inner)
    perhaps: Inner | None = None

    def __post_init__(self):
        expand_short_forms(self)


def test_settings_with_any_default_take_short_forms():
    assert Outer(made="b", perhaps={"rows": [[1, 2]]}) == Outer(Inner("b"), Inner("a", ((1, 2),)))
    assert Outer().perhaps is None


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


def test_flat_keywords_are_fields_of_the_settings_or_of_one_nested_group():
    flat = settings_of(
        Experiment,
        {
            "task": "lgg",
            "root": "data",
            "hardware": "reram",
            "tile_size": 64,
            "chips": 2,
            "seed": 1,
        },
    )
    assert flat == Experiment(
        task=TaskConfig("lgg", "data"),
        hardware={"preset": "reram", "tile_size": 64},
        sweep={"chips": 2},
        seed=1,
    )


def test_other_settings_of_a_group_keep_the_defaults_of_their_study():
    config = settings_of(UncertaintyConfig, {"chips": 3, "reads": 2})
    assert config.sweep == replace(UncertaintyConfig().sweep, chips=3, reads=2)
    assert config.sweep.times_s != SweepConfig().times_s


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sweep": "5", "reads": 2}, "reads: sweep is given as a whole, too"),
        ({"chip": 2}, "unknown setting 'chip'; did you mean 'chips'"),
        ({"sweep": SweepConfig(), "chips": 2}, "chips: sweep is given as a whole, too"),
        ({"sweep": {"chips": 3}, "chips": 2}, "chips: sweep is given as a whole, too"),
        ({"hardware": "pcm", "preset": "ideal"}, "preset: hardware is given as a whole, too"),
        ({"options": {}}, r"got one of task and model\. Give it as task=\{'options': \.\.\.\}"),
    ],
)
def test_a_keyword_without_one_place_is_refused(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings_of(TrainConfig if "options" in given else Experiment, given)


@takes_keywords
def _chips_of(experiment: Experiment) -> int:
    return experiment.sweep.chips


def test_a_function_takes_settings_or_keywords():
    assert _chips_of(Experiment(sweep={"chips": 3})) == _chips_of(chips=3) == 3
    assert _chips_of(experiment=Experiment(sweep={"chips": 3})) == 3
    assert _chips_of() == SweepConfig().chips
    with pytest.raises(ConfigError, match=r"_chips_of: expected Experiment\(...\) or keywords"):
        _chips_of(Experiment(), chips=3)
    with pytest.raises(ConfigError, match=r"_chips_of: unknown setting 'chip'; did you mean 'chi"):
        _chips_of(chip=3)
    for given in (("pcm",), (Experiment(), "pcm"), (None, "pcm")):
        with pytest.raises(ConfigError, match=r"_chips_of: expected Exp.* or keywords, got .*str"):
            _chips_of(*given)


@checks_arguments
def _measure(network, *, chips=5, times=()):
    return chips


@checks_arguments
def _build(name, **options):
    return options


@checks_arguments
@dataclass(frozen=True)
class Settings:
    chips: int = 5

    @checks_arguments
    def at(self, t_s, read=0):
        return t_s


def test_a_checked_function_or_class_works_as_before():
    assert _measure("a", chips=2) == 2
    assert _build("a", features=2) == {"features": 2}
    assert replace(Settings(3), chips=4) == Settings(chips=4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: _measure("a", chip=2),
            "_measure: unknown argument 'chip'; did you mean 'chips'? It accepts network, chips, "
            "times.",
        ),
        (
            lambda: _measure("a", device="cpu"),
            "_measure: unknown argument 'device'. It accepts network, chips, times.",
        ),
        (lambda: _measure("a", 3), "_measure: too many positional arguments. It accepts network"),
        (lambda: _measure(), "_measure: missing a required argument: 'network'. It accepts"),
        (
            lambda: _build(features=2),
            "_build: missing a required argument: 'name'. It accepts name and options.",
        ),
        (
            lambda: Settings().at(tme="1 day"),
            "at: unknown argument 'tme'. It accepts t_s, read.",
        ),
        (lambda: Settings(chip=2), "Settings: unknown argument 'chip'; did you mean 'chips'?"),
    ],
)
def test_arguments_that_do_not_fit_name_the_accepted_ones(call, sentence):
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value).startswith(sentence)
