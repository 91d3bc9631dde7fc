"""Names are chosen in any case, with hyphens, underscores or blanks, and are stored as listed."""

import dataclasses
import importlib
from collections import Counter

import pytest
import torch

import analogmed as am
from analogmed.analog.description.presets import PRESETS
from analogmed.cli.commands import COMMANDS, find_command
from analogmed.cli.named_networks import parse_network
from analogmed.cli.parse import parse
from analogmed.config import Experiment, Hardware, TaskConfig, read_settings
from analogmed.data.case import Task
from analogmed.data.settings import TaskConfig as Data
from analogmed.data.tasks import load_task, task_names
from analogmed.data.volumes import VolumeReader
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.fields import positional_names
from analogmed.foundation.settings.forms import names_of
from analogmed.foundation.text import folded
from analogmed.hardware import estimate, load_profile, profile_names
from analogmed.metrics.registry import metric, metric_names
from analogmed.models import build_model, model_names
from analogmed.models.genotype import BLOCKS
from analogmed.models.settings import ModelConfig
from analogmed.search.settings import SearchConfig, StrategyConfig
from analogmed.search.strategy_names import strategy_names
from analogmed.training import CheckpointInfo
from analogmed.training.settings import OptimizerConfig, TrainConfig

LISTS = {
    "presets": (PRESETS, lambda name: Hardware(name).preset),
    "networks": (model_names(), lambda name: ModelConfig(name).name),
    "data sets": (task_names(), lambda name: TaskConfig(name).name),
    "metrics": (metric_names(), lambda name: metric(name).name),
    "profiles": (profile_names(), lambda name: load_profile(name).name),
    "strategies": (strategy_names(), lambda name: StrategyConfig(name).name),
    "blocks": (BLOCKS, lambda name: name),
    "commands": ([name for name in COMMANDS if " " not in name], lambda n: find_command([n])[0]),
}


def typed(name):
    """Return a name in capitals, with the other separator."""
    return name.upper().translate(str.maketrans("-_ ", "_- "))


@pytest.mark.parametrize("names, chosen", LISTS.values(), ids=LISTS)
def test_each_name_of_a_list_is_found_in_capitals(names, chosen):
    assert max(Counter(map(folded, names)).values()) == 1  # no two names in the same spelling
    if names is not BLOCKS:
        assert [chosen(typed(name)) for name in names] == list(names)


def choices_of(settings, prefix=""):
    """Yield the options of settings that take one of several names, with these names."""
    for field in dataclasses.fields(settings):
        if names := names_of(field.type):
            yield prefix + field.name, names
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from choices_of(field.type, f"{prefix}{field.name}.")


def parsed(command, settings, name, value):
    words = [f"--{name}", value, *(["brain", "f"] if command == "data phantom" else [])]
    words = [value, "f"] if name in positional_names(settings) else words
    try:
        return parse(settings, words, prog="analogmed")
    except ConfigError as error:  # values that need other settings
        return str(error)


def test_each_choice_of_the_command_line_is_found_in_capitals():
    seen = set()
    for command, entry in COMMANDS.items():
        module, _, name = entry.settings.partition(":")
        settings = getattr(importlib.import_module(f"analogmed.{module}"), name)
        for option, names in choices_of(settings):
            if names in seen:
                continue
            seen.add(names)
            expected = parsed(command, settings, option, names[-1])
            assert parsed(command, settings, option, typed(names[-1])) == expected, option
    assert len(seen) > 30


def test_settings_of_a_file_are_stored_as_listed(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(
        "task: {name: Phantom Brain}\nmetrics: [Dice, HD95]\nlevel: MVM only\n"
        "hardware: {preset: PCM, clip: Fixed, drift_compensation: per column}\n"
        "profile: HERMES-Core\nrow_split: Channels\n"
    )
    read, given = (
        read_settings(Experiment, file),
        parse(Experiment, ["--config", str(file)], prog="analogmed"),
    )
    assert read == given
    assert (read.task.name, read.metrics) == ("phantom_brain", ("dice", "hd95"))
    assert (read.hardware.preset, read.hardware.clip) == ("pcm", "fixed")
    assert read.hardware.drift_compensation == "per_column"
    assert (read.level, read.profile, read.row_split) == ("mvm_only", "hermes-core", "channels")


def test_settings_in_python_are_stored_as_listed():
    train = TrainConfig(task="Phantom-Nuclei", model="U-Net", training="HWA")
    assert (train.task.name, train.model.name, train.training) == ("phantom_nuclei", "unet", "hwa")
    optimizer = OptimizerConfig("AdamW", schedule="Cosine")
    assert (optimizer.name, optimizer.schedule) == ("adamw", "cosine")
    search = SearchConfig(objectives="Dice_1D", constraints=("Tiles <= 40",), strategy="NSGA-2")
    assert (search.objectives, search.constraints) == (("dice_1d",), ("tiles <= 40",))
    assert search.strategy.name == "nsga2"
    network = parse_network("Swin UNETR(feature_size=12)")
    assert (network.name, network.text) == ("swin_unetr", "swin_unetr(feature_size=12)")
    info = CheckpointInfo("UNet", 1, 1, 2, "Digital", "t", ("a",))
    assert (info.model, info.training) == ("unet", "digital")


def test_functions_take_names_in_any_case():
    layer = torch.nn.Linear(3, 2)
    analog = am.convert(layer, "PCM", row_split="Channels", backend="Torch")
    assert analog.row_split == "channels"
    assert type(build_model("U-Net++", in_channels=1, out_channels=1)).__name__ == "UNetPlusPlus"
    tiles, profile = am.map_tiles(layer, (1, 3), 256), load_profile("HERMES-1-Phase")
    layer_ms = estimate(tiles, profile, "Measured layer").summary()["latency_ms"]
    assert layer_ms == estimate(tiles, profile, "measured_layer").summary()["latency_ms"]
    assert layer_ms != estimate(tiles, profile, "MVM only").summary()["latency_ms"]
    with pytest.raises(ConfigError, match="row_split: unknown value 'chanels'; did you mean"):
        am.convert(layer, "pcm", row_split="chanels")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("nnU-Net", "dynunet"), ("nn_unet v2", "dynunet"), ("nnunett", "dynunet"), ("unett", "unet")],
)
def test_an_unknown_network_suggests_the_nearest_across_synonyms(typed, meant):
    with pytest.raises(ConfigError, match=f"unknown model '{typed}'; did you mean '{meant}'"):
        build_model(typed, in_channels=1, out_channels=1)


def test_a_data_set_in_any_case_is_the_same_task(tmp_path):
    options = {"phantom_patients": 5, "phantom_size": 32}
    small, big = (
        load_task(name, tmp_path, **options) for name in ("phantom_brain", "Phantom Brain")
    )
    assert isinstance(small, Task) and (small.name, small.test) == (big.name, big.test)
    assert Data("MIT-BIH").own_name == "mitbih"


def test_a_network_is_written_with_its_options_everywhere():
    text = "U-Net(features=8)"
    config = parse(TrainConfig, ["--model", text], prog="analogmed")
    assert (config.model.name, config.model.options) == ("unet", {"features": 8})
    assert TrainConfig(model=text).model == config.model == ModelConfig("unet", {"features": 8})
    assert (parse_network(text).name, parse_network(text).options) == ("unet", {"features": 8})
    with pytest.raises(ConfigError, match="expected the options of the network once"):
        parse(TrainConfig, ["--model", text, "--model.options.features", "4"], prog="analogmed")
    with pytest.raises(ConfigError, match=r"model: expected name or name\(option=value"):
        TrainConfig(model="unet(8)")


def test_a_reader_of_volumes_takes_its_choices_in_any_case():
    reader = VolumeReader(
        channels=("a",), class_values=((1,),), allowed_values=None, intensities=("Z-Score",),
        axes="XYZ", orientation="RAS", nan_policy="Zero",
    )  # fmt: skip
    assert (reader.intensities, reader.axes, reader.orientation) == (("z_score",), "xyz", "ras")
    assert (reader.nan_policy, reader.axis_names) == ("zero", "xyz")
