import json
from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analogmed.analog import Hardware
from analogmed.cli.options import to_options
from analogmed.cli.parse import parse as parse_settings
from analogmed.cli.settings import MapConfig, MeasureConfig, PhantomConfig, ReportConfig
from analogmed.config import Experiment, SweepConfig, TaskConfig, to_yaml
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.paths import write_settings
from analogmed.search.settings import SearchConfig
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.training import TrainConfig


def parse(*arguments, config_class=Experiment):
    return parse_settings(config_class, arguments, prog="program")


@pytest.fixture
def written(tmp_path):
    def write(text, name="settings.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_nothing_given_is_the_default():
    assert parse() == Experiment()
    assert parse(config_class=TrainConfig) == TrainConfig()


def test_short_and_long_options_say_the_same():
    assert parse("--task", "lgg", "--hardware=hermes", "--seed", "-1") == parse(
        "--task.name=lgg", "--hardware.preset", "hermes", "--seed=-1"
    )


def test_words_after_a_list_option_are_its_values():
    wanted = (Path("a.safetensors"), Path("b c.safetensors"))
    assert parse("--checkpoints", "a.safetensors", "b c.safetensors").checkpoints == wanted
    assert parse("--checkpoints", "[a.safetensors, b c.safetensors]").checkpoints == wanted
    assert parse("--sweep.times_s", "3600", "0").sweep.times_s == (0.0, 3600.0)
    assert parse("--metrics=nsd").metrics == ("nsd",)
    assert parse("--task.size", "64", "64").task.size == (64, 64)
    assert parse("--task.size", "null").task.size is None


def test_checkpoints_are_words_too():
    wanted = parse("--checkpoints", "runs/a", "b c.safetensors", "--hardware", "hermes")
    assert parse("runs/a", "b c.safetensors", "--hardware", "hermes") == wanted
    assert parse("runs/a", "--hardware", "hermes", "b c.safetensors") == wanted
    assert parse("--restart", "runs/a", "--seed", "1", "b").checkpoints == (
        Path("runs/a"),
        Path("b"),
    )
    with pytest.raises(ConfigError, match="got it twice"):
        parse("runs/a", "--checkpoints", "runs/b")


def test_true_may_be_left_out():
    assert parse("--restart").restart
    assert parse("--restart", "true", "--seed", "1").restart
    assert not parse("--restart", "false", "--seed", "1").restart
    assert parse("--hardware.perfect").hardware.perfect
    with pytest.raises(ConfigError, match="restart"):
        parse("--restart", "perhaps")


def test_seconds_that_may_be_days_are_pointed_out():
    with pytest.warns(UserWarning, match=r"--sweep.times_s: .* last time is 30 s .*'30 days'"):
        assert parse("--sweep.times_s", "0", "1", "30").sweep.times_s == (0.0, 1.0, 30.0)
    for times in (
        ["0", "1"],
        ["0", "30 s"],
        ["0.0", "30.0"],
        ["0", "30", "3600"],
        ["1d", "30 days"],
    ):
        parse("--sweep.times_s", *times)


def test_hardware_takes_from_its_preset_what_is_not_given():
    hardware = parse("--hardware", "hermes", "--hardware.out_noise", "0.1").hardware
    assert hardware == Hardware("hermes", out_noise=0.1)
    assert parse("--hardware.tile_size", "[128, 64]").hardware.tile_shape == (128, 64)


EXPERIMENTS = [
    Experiment(),
    Experiment(
        task=TaskConfig("lgg", root=Path("data"), size=(96, 96), options={"rare": [1, "x"]}),
        checkpoints=(Path("a b.safetensors"), Path("c.safetensors")),
        hardware=Hardware("analognas", out_noise=1e-5),
        sweep=SweepConfig(2, (0.0, 1e9), 3),
        metrics=("dice", "nsd"),
        digital_layers=("head*",),
        out=Path("there"),
        name="it's: a #name",
    ),
]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_written_as_yaml_is_read_back_equal(experiment, tmp_path):
    write_settings(tmp_path / "settings.yaml", experiment)
    assert parse("--config", str(tmp_path / "settings.yaml")) == experiment


@pytest.mark.parametrize(
    "experiment",
    [
        *EXPERIMENTS,
        Experiment(task=TaskConfig(split_seed=-1, shares=(0.25, 0.05, 0.7), spatial_dims=3)),
        Experiment(hardware=Hardware("hermes", tile_size=(128, 64), modifier_coeffs=(0.1, -1e-7))),
        Experiment(checkpoints=(Path("-"), Path("null"), Path("1e3")), digital_layers=("[a", "~")),
        Experiment(task=TaskConfig(root=Path("--data"), options={"a": {"b": [None, True]}})),
    ],
)
def test_an_experiment_written_as_options_is_read_back_equal(experiment):
    assert parse(*to_options(experiment)) == experiment


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ODD = ["*conv1", "0", "010", "2024", "#x", "no", "null", "~", "1e3", ".inf", "[a", "[a]", "{b}"]
ODD += ["'q'", '"q"', '"', "-x", "--out", "&a", "!t", "nan"]
ODD += ["true", "?", "a=b", "@x", "`", ">"]
ODD += ["a, b", "a: b", "2024-01-02", " ", "[1, 2]", "-1", "a\nb", "%", "|"]
ODD += ["analogmed_placeholder_0"]
TEXT |= st.sampled_from(ODD)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(
    TEXT.filter(lambda key: key not in {f.name for f in fields(TaskConfig)}), VALUES, max_size=3
)
PATH = TEXT.filter(lambda text: ".." not in text).map(Path)
MAYBE_PATH = st.none() | PATH
EXPERIMENT = st.builds(
    Experiment,
    task=st.builds(TaskConfig, name=TEXT, root=MAYBE_PATH, options=OPTIONS),
    checkpoints=st.lists(PATH, max_size=3).map(tuple),
    factories=st.lists(TEXT, max_size=3).map(tuple),
    digital_layers=st.none() | st.lists(TEXT, max_size=3).map(lambda names: tuple({*names})),
    metrics=st.lists(TEXT, max_size=2).map(tuple),
    profile=st.none() | TEXT,
    store=st.none() | TEXT,
    device=TEXT,
    out=MAYBE_PATH,
    name=TEXT,
    seed=st.integers(0, 2**40),
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(experiment=EXPERIMENT)
def test_any_experiment_written_as_options_is_read_back_equal(experiment):
    assert parse(*to_options(experiment)) == experiment


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=timedelta(seconds=10))
@given(experiment=EXPERIMENT)
def test_any_experiment_is_read_back_equal_from_options_and_from_yaml(experiment, tmp_path_factory):
    assert parse(*to_options(experiment)) == experiment
    path = tmp_path_factory.getbasetemp() / "experiment.yaml"
    write_settings(path, experiment)
    assert parse("--config", str(path)) == experiment


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=timedelta(seconds=10))
@given(
    words=st.lists(
        st.sampled_from(["--task", "--task.options", "--task.options.a.b", "--sweep", "--hardware"])
        | st.sampled_from(["--digital_layers", "--sweep.times_s", "--hardware.tile_size", "--out"])
        | TEXT.filter(lambda word: word not in ("-h", "--help", "--help-all")),
        max_size=6,
    )
)
def test_any_words_become_an_experiment_or_a_sentence(words):
    with suppress(ConfigError):
        assert isinstance(parse(*words), Experiment)


def test_words_are_taken_as_they_are():
    assert parse("--digital_layers", "*conv1", "0", "0.10", "[ab]*").digital_layers == (
        "*conv1",
        "0",
        "0.10",
        "[ab]*",
    )
    assert parse("--digital_layers", "null", "a").digital_layers == ("null", "a")
    assert parse("--digital_layers", "null").digital_layers is None
    assert parse("--checkpoints", "2024").checkpoints == (Path("2024"),)
    assert parse("--checkpoints", "a, b").checkpoints == (Path("a, b"),)
    assert parse("--out", "#2").out == Path("#2")
    assert parse("--init", "#x", config_class=TrainConfig).init == Path("#x")
    assert parse("--out", "null").out is None
    assert parse("--name", "null").name == "null"


QUOTED = {
    "nm": "010",
    "label": "no",
    "k": "0x10",
    "patient_pattern": "null",
    "below": ["1", {"a": "2"}],
}


def test_options_of_tasks_in_a_list_are_read_back_equal():
    tasks = (TaskConfig(options=QUOTED), TaskConfig(name="lgg", options={"k": "010", "n": 4}))
    config = SupernetConfig(task=TaskConfig(options={"k": "no"}), more_tasks=tasks)
    assert parse(*to_options(config), config_class=SupernetConfig) == config


def test_quotes_inside_the_options_of_a_task_are_kept(written):
    assert parse("--task.options", yaml.safe_dump(QUOTED)).task.options == QUOTED
    assert parse("--task.options", json.dumps(QUOTED)).task.options == QUOTED
    path = written(yaml.safe_dump({"task": {"name": "lgg", "options": QUOTED}}))
    assert parse("--config", path).task.options == QUOTED
    also = parse("--config", path, "--task.options.k", "3", "--task.options.a.b", "'4'").task
    assert also.options == QUOTED | {"k": 3, "a": {"b": "4"}}
    assert parse("--task.options.label", "*_seg.nii.gz").task.options == {"label": "*_seg.nii.gz"}


@pytest.mark.parametrize(
    "words",
    [
        ["--task.options", "{a: 1, a: 2}"],
        ["--task.options", '{"a": {"b": 1, "b": 2}}'],
        ["--sweep", "{chips: 3, chips: 4}"],
        ["--checkpoints", "[{a: 1, a: 2}]"],
    ],
)
def test_a_repeated_key_on_the_command_line_is_refused(words):
    with pytest.raises(ConfigError, match=rf"{words[0]}.*occurs twice"):
        parse(*words)


def test_aliases_that_multiply_are_refused_on_the_command_line():
    lists = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    text = "{a0: &a0 [1, 1], " + ", ".join(lists) + "}"
    with pytest.raises(ConfigError, match="values once its aliases"):
        parse("--task.options", text)


@pytest.mark.parametrize("text", ["hardware: {preset: [a]}", "hardware: {preset: null}"])
def test_a_preset_that_is_no_name_is_refused(text, written):
    with pytest.raises(ConfigError, match="preset"):
        parse("--config", written(text))


def test_messages_have_the_words_of_the_user():
    with pytest.raises(ConfigError, match=r"unknown hardware preset '\*her'"):
        parse("--hardware", "*her")


def test_options_are_written_as_a_user_would_and_without_defaults():
    assert to_options(Experiment()) == []
    task = TaskConfig("lgg", root=Path("data/lgg"), size=(96, 96), options={"window": [64, 64]})
    found = to_options(
        Experiment(
            task=task,
            checkpoints=(Path("runs/a"), Path("runs/b")),
            hardware=Hardware("hermes", out_noise=0.02),
        )
    )
    assert " ".join(found) == (
        "--task lgg --task.root data/lgg --task.size 96 96 "
        '--task.options {"window": [64, 64]} --checkpoints runs/a runs/b '
        "--hardware hermes --hardware.out_noise 0.02"
    )


def test_options_stand_above_the_file(written):
    path = written("sweep: {chips: 3, reads: 2}\nseed: 4\n")
    found = parse("--config", path, "--sweep.chips", "7")
    assert (found.sweep.chips, found.sweep.reads, found.seed) == (7, 2, 4)


def test_another_preset_stands_above_a_resolved_file_but_keeps_what_was_chosen(written):
    path = written(to_yaml(Experiment(hardware=Hardware("pcm", out_noise=0.1))))
    assert parse("--config", path, "--hardware", "hermes").hardware == Hardware(
        "hermes", out_noise=0.1
    )


def test_a_file_may_use_the_short_form_and_scientific_notation(written):
    path = written("task: lgg\noptimizer: {name: sgd, learning_rate: 1e-3}\n")
    found = parse("--config", path, config_class=TrainConfig)
    assert (found.task.name, found.optimizer.learning_rate) == ("lgg", 0.001)
    assert parse("--optimizer", "sgd", config_class=TrainConfig).optimizer.name == "sgd"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bachsize", "3"], "unknown option --bachsize; did you mean '--batch_size'"),
        (["--chip", "3"], "unknown option --chip; did you mean '--sweep.chips'"),
        (["--times", "1 day"], "unknown option --times; did you mean '--sweep.times_s'"),
        (["--zzz", "1"], "unknown option --zzz; '.* --help-all' lists all"),
        (["--seed.x", "3"], "unknown option --seed.x; did you mean '--seed'"),
        (["--seed.limit", "3"], "unknown option --seed.limit; did you mean '--limit'"),
        (["--sweep.chip", "3"], r"unknown option --sweep.chip; did you mean '--sweep.chips'"),
        (["--hardware.gmax_us=3"], "did you mean '--hardware.g_max_us'"),
        (["--hardware", "hermess"], "unknown hardware preset 'hermess'; did you mean 'hermes'"),
        (["--sweep.chips", "x"], r"sweep\.chips: expected a whole number, got x$"),
        (["--sweep.times_s", "-1"], r"times_s.*got -1\.0"),
        (["--backend", "gpu"], "backend: 'gpu' is not known; choose from: aihwkit, auto, numba"),
        (["--engine.name", "rai"], r"engine\.name: 'rai'.*; did you mean 'ray'\? \(local, ray\)$"),
        (["--sweep.width", "x"], r"sweep\.width: expected a number, got x$"),
        (["--task.spatial_dims", "4"], r"spatial_dims: expected one of \[1, 2, 3\], got 4$"),
        (["--checkpoints", "a", "--seed=1", "--checkpoints", "b"], "after one --checkpoints, got"),
        ([""], "unexpected argument ''"),
        (["--config"], "--config: expected one argument"),
        (["--task.options.root", "x"], r"write task\.root instead"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["stray"], ["--seed", "1", "2"]])
def test_a_word_too_many_is_refused_by_commands_without_words(arguments):
    with pytest.raises(ConfigError, match=f"unexpected argument '{arguments[-1]}'"):
        parse(*arguments, config_class=TrainConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("taks: {name: lgg}\n", "unknown key 'taks'; did you mean 'task'"),
        ("sweep: {chip: 3}\n", "sweep: unknown key 'chip'; did you mean 'chips'"),
        ("seed: 1\nseed: 2\n", "line 2: .*'seed' occurs twice"),
        ("name: !!python/name:os.system\n", "line 1: .*python/name"),
        ("sweep: 3\n", "sweep must be a mapping"),
    ],
)
def test_a_wrong_file_is_named(text, message, written):
    with pytest.raises(ConfigError, match=rf"settings\.yaml.*{message}"):
        parse("--config", written(text))


def test_every_file_is_read_strictly_not_only_the_first(written):
    good, bad = written("seed: 1\n"), written("chips: 1\nchips: 2\n", "second.yaml")
    with pytest.raises(ConfigError, match=r"second\.yaml, line 2"):
        parse("--config", good, "--sweep", bad)
    with pytest.raises(ConfigError, match=r"second\.yaml, line 2"):
        parse("--config", good, f"--config={bad}")


def test_a_mapping_of_paths_is_read(tmp_path):
    options = ["--supernets", "{brain: runs/brain, '010': runs/2}"]
    expected = {"brain": Path("runs/brain"), "010": Path("runs/2")}
    assert parse_settings(SearchConfig, options, prog="search").supernets == expected


def test_words_without_an_option_are_positional_settings_in_any_place():
    wanted = PhantomConfig("brain", Path("data"), seed=1, size=48)
    for words in (
        ["brain", "data", "--seed", "1", "--size=48"],
        ["--seed", "1", "brain", "--size", "48", "data"],
        ["--seed=1", "--size=48", "--", "brain", "data"],
    ):
        assert parse(*words, config_class=PhantomConfig) == wanted
    runs = (Path("a b"), Path("-c"), Path("[d"))
    for words in (
        ["--out", "page", "--", "a b", "-c", "[d"],
        ["a b", "--out=page", "--", "-c", "[d"],
    ):
        assert parse(*words, config_class=ReportConfig) == ReportConfig(runs, Path("page"))


def test_positional_settings_may_come_from_a_file(written):
    path = written("runs: [runs/a, runs/b]\n")
    assert parse("--config", path, config_class=ReportConfig).runs == (
        Path(path).parent / "runs/a",
        Path(path).parent / "runs/b",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing KIND and FOLDER; expected program KIND FOLDER \\[options\\]$"),
        (["brain"], "missing FOLDER; expected program KIND FOLDER"),
        (
            ["knee", "data"],
            "kind: 'knee' is not known; choose from: brain, chest, ecg, nuclei, spleen",
        ),
        (["brain", "data", "more"], "unexpected argument 'more'"),
        (["brain", "data", "--sede", "1"], "unknown option --sede; did you mean '--seed'"),
    ],
)
def test_wrong_positional_words_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse(*words, config_class=PhantomConfig)


def test_a_network_with_options_is_one_word():
    models = ("unetpp(features=[2, 2, 4, 4, 4, 2])", "a.b:c(x=no, y=null)")
    assert parse("--model", *models, config_class=MapConfig).model == models
    assert parse("--held_out", config_class=MeasureConfig).held_out == ()
    assert parse(config_class=MeasureConfig).held_out == MeasureConfig().held_out


def test_settings_of_hardware_are_options_and_back():
    settings = MapConfig(("unet(features=8)", "unetpp"), (1, 32, 32), tile_size=(64, 32))
    settings = replace(settings, profile="none", digital_layers=("head", "up*"), out=Path("x"))
    assert parse(*to_options(settings), config_class=MapConfig) == settings
