"""From an experiment to its results: table, summary, figures, run folder."""

import json
import warnings
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from analogmed.analog import coverage
from analogmed.atomic import ensure_writable, write_text_atomically
from analogmed.config import Experiment, to_yaml
from analogmed.data import Task
from analogmed.errors import ConfigError
from analogmed.evaluation.metrics import METRICS
from analogmed.evaluation.robustness import over_time, summarise
from analogmed.evaluation.run_folder import (
    describe_environment,
    to_table,
    write_table,
)
from analogmed.evaluation.sweep import Cases, Row, Unit, make_analog, plan, rows_of, run_unit
from analogmed.hardware import TileMap, estimate, load_profile, map_tiles
from analogmed.report import dice_over_time, drop_per_model
from analogmed.suggest import nearest
from analogmed.training import Checkpoint, load_checkpoint

N_BOOT = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        experiment: its settings.
        table: the long results table.
        costs: tiles, utilisation, reuse, parameters and coverage of each model and training; with
            a profile, estimates of time and energy too.
    """

    experiment: Experiment
    table: pd.DataFrame
    costs: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """One row per task, model and training: Dice now, later and lost; and the cost."""
        robustness = summarise(self.table, n_boot=N_BOOT, level=LEVEL, seed=self.experiment.seed)
        return robustness.merge(self.costs, on=["model", "training"], how="left")

    def curves(self) -> pd.DataFrame:
        """Dice of each network at each time, with intervals."""
        return over_time(self.table, n_boot=N_BOOT, level=LEVEL, seed=self.experiment.seed)

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and figures into a run folder."""
        summary = self.summary()
        environment = json.dumps(describe_environment(), indent=2) + "\n"
        write_text_atomically(folder / "experiment.yaml", to_yaml(self.experiment))
        write_text_atomically(folder / "environment.json", environment)
        write_table(self.table, folder, "results")
        write_table(summary, folder, "summary", parquet=False)
        dice_over_time(self.curves(), folder / "figures" / "dice_over_time.png")
        drop_per_model(summary, folder / "figures" / "drop_per_model.png")


def evaluate(experiment: Experiment) -> Results:
    """Evaluate trained networks, digitally and on chips, and write the run folder.

    Args:
        experiment: what to evaluate, on which data and hardware.

    Returns:
        the results, as they are written.

    Raises:
        ConfigError: settings that do not fit each other; a run folder that cannot be written.
        DataError: a case that cannot be read. CheckpointError: a network that cannot.
        LeakageError: a network has been trained on a test patient.

    What was computed before an error or an interruption is kept in the folder ``unfinished``; the
    results of an earlier run stay until new ones are complete.
    """
    check_settings(experiment)
    folder = ensure_writable(experiment.folder)
    task = experiment.task.load()
    checkpoints = [
        load_checkpoint(path, factories=experiment.factories)
        for path in checkpoint_paths(experiment)
    ]
    for checkpoint in checkpoints:
        checkpoint.info.check_fits(task, checkpoint.path)
        checkpoint.info.refuse_leakage(task, checkpoint.path)
        tell_differences(checkpoint, task, experiment)
    _refuse_twins(checkpoints)
    experiment = replace(experiment, checkpoints=tuple(c.path for c in checkpoints))
    rows: list[Row] = []
    try:
        costs = _run(experiment, task, checkpoints, rows)
    except BaseException:
        _keep_unfinished(experiment, rows, folder / "unfinished")
        raise
    results = Results(experiment, to_table(rows), pd.DataFrame(costs))
    results.write(folder)
    return results


def checkpoint_paths(experiment: Experiment) -> tuple[Path, ...]:
    """The experiment's checkpoints, or the shipped ones of its task.

    Raises:
        ConfigError: none are given and none are shipped.
    """
    if experiment.checkpoints:
        return experiment.checkpoints
    shipped = Path(str(files("analogmed") / "checkpoints" / experiment.task.name))
    found = tuple(sorted(shipped.glob("*.safetensors")))
    if not found:
        raise ConfigError(
            f"no network is shipped for task '{experiment.task.name}'; train one with "
            "python -m analogmed.train and give its file with --checkpoints"
        )
    return found


def check_settings(experiment: Experiment) -> None:
    """Refuse settings that would otherwise fail after the first network has run."""
    if experiment.profile is not None:
        load_profile(experiment.profile).figures(experiment.level)
    for metric in experiment.metrics:
        if metric not in METRICS:
            raise ConfigError(f"metrics: unknown metric '{metric}'; {nearest(metric, METRICS)}")
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{experiment.device}' is not there: {error}") from error


def tell_differences(checkpoint: Checkpoint, task: Task, experiment: Experiment) -> None:
    """Warn where a network is used on other data or hardware than it was trained for."""
    info = checkpoint.info
    differences = []
    if info.task != task.name:
        differences.append(f"on {info.task}, not on {task.name}")
    if info.window and info.window != task.window:
        differences.append(f"on images of {info.window}, not of {task.window} (task.size)")
    if info.hardware and not info.is_for(experiment.hardware, info.row_split):
        differences.append(f"for another chip ({info.hardware['preset']} and its arguments)")
    if differences:
        warnings.warn(f"{checkpoint.path} was trained {'; '.join(differences)}", stacklevel=3)


def _refuse_twins(checkpoints: list[Checkpoint]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for checkpoint in checkpoints:
        key = (checkpoint.info.model, checkpoint.info.training)
        if key in seen:
            raise ConfigError(
                f"{checkpoint.path} and {seen[key]} are both {key[0]} with {key[1]} training; the "
                "results table tells networks apart by these two: evaluate them in two runs"
            )
        seen[key] = checkpoint.path


def _run(
    experiment: Experiment, task: Task, checkpoints: list[Checkpoint], rows: list[Row]
) -> list[Row]:
    """Run every unit; its rows of results go to ``rows``, the costs of the networks come back."""
    units, cases = plan(checkpoints, experiment), Cases(task)
    costs: list[Row] = []
    analog: dict[Path, nn.Module] = {}
    total = sum(rows_of(unit, experiment) for unit in units) * len(cases)
    with tqdm(total=total, unit="case", disable=None, smoothing=0.05) as progress:
        for unit in units:
            path = unit.checkpoint.path
            if unit.chip is not None and path not in analog:
                analog = {path: make_analog(unit.checkpoint, experiment, task)}
                costs.append(_cost(unit.checkpoint, analog[path], experiment, task))
            progress.set_description(_title(unit))
            network = None if unit.chip is None else analog[path]
            rows += run_unit(unit, network, cases, experiment, progress.update)
    return costs


def _keep_unfinished(experiment: Experiment, rows: list[Row], folder: Path) -> None:
    if rows:
        write_text_atomically(folder / "experiment.yaml", to_yaml(experiment))
        write_table(to_table(rows), folder, "results")


def _title(unit: Unit) -> str:
    info = unit.checkpoint.info
    run = "digital run" if unit.chip is None else f"chip {unit.chip}"
    return f"{info.model} {info.training}, {run}"


def _cost(checkpoint: Checkpoint, analog: nn.Module, experiment: Experiment, task: Task) -> Row:
    shape = (1, task.in_channels, *task.window)
    covered = coverage(analog, shape)
    for name, reason in covered.digital_layers.items():
        warnings.warn(f"{checkpoint.info.model}: {name} stays digital: {reason}", stacklevel=2)
    tiles = _mapped(checkpoint, experiment, shape, experiment.hardware.tile_shape).summary()
    return {
        "model": checkpoint.info.model,
        "training": checkpoint.info.training,
        **{name: tiles[name] for name in _COSTS},
        "analog_weight_share": covered.weight_share,
        "analog_mac_share": covered.mac_share,
        **_estimates(checkpoint, experiment, shape),
    }


def _mapped(
    checkpoint: Checkpoint, experiment: Experiment, shape: tuple[int, ...], tile: tuple[int, int]
) -> TileMap:
    return map_tiles(
        checkpoint.network,
        shape,
        tile,
        row_split=experiment.row_split,
        digital=experiment.digital_layers,
    )


def _estimates(checkpoint: Checkpoint, experiment: Experiment, shape: tuple[int, ...]) -> Row:
    """Time and energy of one slice, on tiles of the profile's size, whatever Dice was run on."""
    if experiment.profile is None:
        return {}
    profile = load_profile(experiment.profile)
    mapped = _mapped(checkpoint, experiment, shape, profile.tile_size)
    cost = estimate(mapped, profile, experiment.level)
    own = cost.summary()
    return {
        "profile": profile.name,
        "profile_level": experiment.level,
        "profile_tile_size": " x ".join(map(str, profile.tile_size)),
        "estimated_tiles": cost.tiles,
        "estimated_utilisation": own["utilisation_placed"],
        "estimated_latency_ms": own["latency_ms"],
        "estimated_energy_mj": own["energy_mj"],
        "estimated_throughput_per_s": own["throughput_per_s"],
        "uncosted_layers": len(cost.uncosted_layers),
    }


_COSTS = (
    "parameters",
    "tiles",
    "utilisation_per_tile",
    "utilisation_per_layer",
    "utilisation_per_leaf_module",
    "reuse_factor_per_tile",
    "reuse_factor_per_layer",
    "reuse_factor_per_leaf_module",
)
