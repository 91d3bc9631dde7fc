"""Preparation of a study: load data and networks, and check them against the settings."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch

from analogmed.analog import left_digital, to_aihwkit
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.analog.devices.reram import check_times
from analogmed.data import Task
from analogmed.data.plausibility import check_plausible
from analogmed.evaluation.deploy import digital_layers_of, to_tiles
from analogmed.evaluation.network_check import check_network
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.progress import announce
from analogmed.hardware import load_profile
from analogmed.metrics.registry import metric as metric_of
from analogmed.training import Checkpoint, CheckpointInfo, load_checkpoint
from analogmed.training.distributed import missing_device

Config = TypeVar("Config", bound=Experiment)
Networks = Literal["distinct", "ensembles", "one"]


@dataclass(frozen=True)
class Prepared(Generic[Config]):
    """Checked data and networks of a study.

    Attributes:
        config: settings, completed with the metrics of the task and the files of the networks.
        task: data.
        checkpoints: trained networks, in the order of ``config.checkpoints``.
    """

    config: Config
    task: Task
    checkpoints: tuple[Checkpoint, ...]


def prepare(config: Config, *, networks: Networks) -> Prepared[Config]:
    """Load data and networks of a study, and check them.

    Args:
        config: settings of the study.
        networks: ``distinct`` for networks that differ in model or training, ``ensembles`` if
            several of one model and training are allowed, ``one`` for a single network: by default
            the shipped, digitally trained U-Net; its digital layers are entered in the settings.

    Raises:
        ConfigError: settings conflict, the study does not compute a metric, a network does not fit
            the task, or two networks that must be distinct have the same model and training.
        DataError: the data cannot be read. CheckpointError: a network cannot be read.
        LeakageError: a network has been trained on a test patient.
    """
    check_settings(config)
    announce("reading data and networks")
    task = config.task.load()
    config = config.for_task(task)
    paths = checkpoint_paths(config)
    paths = (_default_of(paths),) if networks == "one" else paths
    checkpoints = tuple(load_checkpoint(path, factories=config.factories) for path in paths)
    for checkpoint in checkpoints:
        checkpoint.info.check_fits(task, checkpoint.path)
        checkpoint.info.refuse_leakage(task, checkpoint.path)
    check_plausible(task, task.test)
    for checkpoint in checkpoints:
        check_network(checkpoint, task, config)
        warn_on_mismatch(checkpoint, task, config)
    if networks == "distinct":
        _check_unique_runs(checkpoints)
    config = replace(config, checkpoints=tuple(c.path for c in checkpoints))
    if networks == "one":
        config = replace(config, digital_layers=digital_layers_of(checkpoints[0], config))
    return Prepared(config, task, checkpoints)


def _default_of(paths: tuple[Path, ...]) -> Path:
    """Return the digitally trained U-Net among the shipped networks, or else the first network."""
    return next((path for path in paths if path.stem == "unet-digital"), paths[0])


def checkpoint_paths(experiment: Experiment) -> tuple[Path, ...]:
    """Return the experiment's checkpoints, or the shipped ones of its task.

    Raises:
        ConfigError: no checkpoints are given, and none are shipped for the task.
    """
    if experiment.checkpoints:
        return experiment.checkpoints
    found = tuple(sorted(shipped_folder(experiment.task.name).glob("*.safetensors")))
    if not found:
        raise ConfigError(
            f"no network is shipped for task '{experiment.task.name}'; train one with "
            "'analogmed train' and give its file with --checkpoints"
        )
    return found


def shipped_folder(task: str) -> Path:
    """Return the folder of the networks that are shipped for a task; other tasks have none."""
    return Path(str(files("analogmed") / "checkpoints" / task))


def check_settings(experiment: Experiment) -> None:
    """Raise a ConfigError for settings that would fail only after the first network has run."""
    if experiment.profile is not None:
        load_profile(experiment.profile).figures(experiment.level)
    for metric in experiment.metrics:
        metric_of(metric)
    check_times(rpu_config_of(experiment.hardware).noise_model, experiment.sweep.times_s)
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        raise missing_device(experiment.device, error) from error


def warn_on_mismatch(checkpoint: Checkpoint, task: Task, experiment: Experiment) -> None:
    """Warn if a network is used on data or hardware other than in its training."""
    info = checkpoint.info
    differences = []
    if info.task != task.name:
        differences.append(f"on {info.task}, not on {task.name}")
    if info.window and info.window != task.window:
        differences.append(f"on images of {info.window}, not of {task.window} (task.size)")
    if info.hardware and not info.is_for(experiment.hardware, info.row_split):
        differences.append(f"for another chip ({info.hardware['preset']} and its arguments)")
    hardware = rpu_config_of(experiment.hardware)
    if checkpoint.scaled_layers and not info.has_tiles(hardware, experiment.row_split):
        differences.append(_with_other_scales(info))
    newly_on_tiles, newly_digital = _moved_layers(checkpoint, experiment)
    for then, now, names in (
        ("digital", "on tiles", newly_on_tiles),
        ("on tiles", "digital", newly_digital),
    ):
        if names:
            listed = ", ".join(sorted(names))
            differences.append(f"with {listed} {then}, here {now} (digital_layers, backend)")
    fits = not newly_on_tiles and info.has_input_converters(hardware, experiment.row_split)
    if checkpoint.input_ranges and hardware.pre_post.input_range.enable and not fits:
        differences.append("with input ranges that do not fit here, and are calibrated again")
    if differences:
        warnings.warn(f"{checkpoint.path} was trained {'; '.join(differences)}", stacklevel=4)


def _with_other_scales(info: CheckpointInfo) -> str:
    trained = {name: info.hardware[name] for name in ("learned_out_scale", "tile_size")}
    return (
        "with learned output scales of other tiles, which are multiplied into its weights here "
        f"(its own are hardware {trained}, row_split {info.row_split})"
    )


def _moved_layers(checkpoint: Checkpoint, experiment: Experiment) -> tuple[set[str], set[str]]:
    """Return the layers on tiles here that were digital in training, and vice versa."""
    if checkpoint.info.digital_layers is None:
        return set(), set()
    trained, here = set(checkpoint.info.digital_layers), _left_digital(checkpoint, experiment)
    return trained - here, here - trained


def warn_on_placement_mismatch(checkpoints: Sequence[Checkpoint], experiment: Experiment) -> None:
    """Warn if the trainings of one model have different digital layers."""
    if experiment.digital_layers is not None or not any(c.info.digital_layers for c in checkpoints):
        return
    left = {checkpoint.path: _left_digital(checkpoint, experiment) for checkpoint in checkpoints}
    for pair in combinations(checkpoints, 2):
        most, least = sorted(pair, key=lambda c: len(left[c.path]), reverse=True)
        if most.info.model == least.info.model and left[most.path] != left[least.path]:
            names, others = (sorted(left[c.path]) for c in (most, least))
            warnings.warn(
                f"{most.path} has {', '.join(names)} digital, {least.path} "
                f"{', '.join(others) or 'no layer'}, each as in its training; to compare them on "
                f"the same, give --digital_layers {' '.join(names)}",
                stacklevel=3,
            )


def _left_digital(checkpoint: Checkpoint, experiment: Experiment) -> set[str]:
    analog = to_tiles(checkpoint, experiment)
    return set(left_digital(to_aihwkit(analog) if experiment.backend == "aihwkit" else analog))


def _check_unique_runs(checkpoints: Iterable[Checkpoint]) -> None:
    """Raise a ConfigError if two networks have the same model and training."""
    seen: dict[tuple[str, str], Path] = {}
    for checkpoint in checkpoints:
        key = (checkpoint.info.model, checkpoint.info.training)
        if key in seen:
            raise ConfigError(
                f"{checkpoint.path} and {seen[key]} are both {key[0]} with {key[1]} training; the "
                "results table identifies networks by these two: evaluate them in two runs"
            )
        seen[key] = checkpoint.path
