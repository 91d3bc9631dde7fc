"""Metrics of a genotype: hardware-aware training, programming of chips, and reads over a month."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from torch import nn

from analogmed.analog import Hardware
from analogmed.data import Task
from analogmed.data.settings import TaskConfig
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.session import Cases
from analogmed.evaluation.settings import Experiment, SweepConfig
from analogmed.evaluation.statistics.spread import std_between_chips
from analogmed.evaluation.studies.robustness.sweep import chip_table
from analogmed.evaluation.studies.uncertainty.passes import maps_of, passes_of
from analogmed.evaluation.studies.uncertainty.settings import UncertaintyConfig
from analogmed.evaluation.summaries.runs import NetworkRun, network_runs
from analogmed.execution.threads import one_thread, threads
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.progress import without_progress
from analogmed.foundation.time_constants import DAY_S, MONTH_S, SECOND_S, T0_S
from analogmed.hardware import estimate, load_profile, map_tiles
from analogmed.hardware.profiles import Level
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.models import Genotype, build_model
from analogmed.models.settings import ModelConfig
from analogmed.search.digital_layers import layers_of
from analogmed.search.settings import CandidateConfig, SearchConfig
from analogmed.tables.estimates import Estimate, shown_in
from analogmed.tables.results import RESULTS
from analogmed.training import (
    Checkpoint,
    TrainConfig,
    load_checkpoint,
    train,
)
from analogmed.training.log import LOGGER as TRAINING
from analogmed.training.state.state import remove_states

TIMES_S = (T0_S, SECOND_S, DAY_S, MONTH_S)
"""Times after programming at which candidates are evaluated, in s."""


class Evaluator(Protocol):
    """Interface that computes the metrics of a network for a search."""

    def evaluate(self, genotype: Genotype, folder: Path) -> Mapping[str, float]:
        """Return the metrics of a network by name.

        Args:
            genotype: network to evaluate.
            folder: folder for the results of its training and evaluation.

        Returns:
            metrics named as in :data:`analogmed.search.objectives.METRICS`.
        """

    def count(self, genotype: Genotype) -> Mapping[str, float]:
        """Return those metrics that need no training."""


def make_evaluator(config: SearchConfig, task: TaskConfig) -> "ChipEvaluator":
    """Return the evaluator of the candidates of a search.

    Args:
        config: settings of the search.
        task: data; its test split contains the patients that candidates are compared on.
    """
    return ChipEvaluator(
        task,
        hardware=config.hardware,
        digital_layers=config.digital_layers,
        candidate=config.candidate,
        profile=config.profile,
        level=config.level,
        metrics=config.goal.estimated,
        uncertainty="uncertainty" in config.goal.metrics,
        backend=config.backend,
        device=config.device,
        seed=config.seed,
    )


class ChipEvaluator:
    """Hardware-aware training of a network, evaluated on chips at t0, a second, a day and a month.

    All candidates have the same training seed, patches and chips, so that they are compared under
    common random numbers.

    Args:
        task: data; its test split contains the patients that candidates are compared on, as
            :func:`analogmed.search.selection.selection_task` sets it.
        hardware: description of the chip.
        digital_layers: names or patterns of layers that stay digital in every network that has
            them, in addition to those that its genes place there.
        candidate: how networks are trained, and on how many chips they are evaluated.
        profile: tile type for latency and energy.
        level: accounting level of latency and energy.
        metrics: further metrics of predictions, besides the primary metric of the task.
        uncertainty: whether to measure the predictive uncertainty.
        backend: implementation of the tile computations.
        device: device of the computation.
        seed: root of all random draws.
    """

    def __init__(
        self,
        task: TaskConfig,
        *,
        hardware: Hardware = Hardware(),  # noqa: B008
        digital_layers: tuple[str, ...] = (),
        candidate: CandidateConfig = CandidateConfig(),  # noqa: B008
        profile: str = "hermes-4-phase",
        level: Level = "mvm_only",
        metrics: tuple[str, ...] = (),
        uncertainty: bool = False,
        backend: str = "auto",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self._task_config, self._hardware, self._candidate = task, hardware, candidate
        self._digital_layers = digital_layers
        self._profile, self._level = load_profile(profile), level
        self._profile.figures(level)
        self._metrics, self._uncertainty, self._backend = metrics, uncertainty, backend
        self._device, self._seed = device, seed
        self._counts: dict[Genotype, dict[str, float]] = {}

    @cached_property
    def task(self) -> Task:
        """Data of the task, loaded at first use."""
        return self._task_config.load()

    def evaluate(self, genotype: Genotype, folder: Path) -> dict[str, float]:
        """Train a network and evaluate it on chips.

        Args:
            genotype: network to evaluate.
            folder: output folder for ``genotype.json``, the training runs ``digital`` and ``hwa``,
                and the long table ``results.csv`` and ``.parquet``.

        Returns:
            metrics by name; undefined ones, such as a deviation over one chip, are left out.

        Raises:
            NonFiniteError: the training diverged.
            DataError: the primary metric is undefined in all selection cases.
        """
        write_text_atomically(folder / "genotype.json", genotype.to_json() + "\n")
        with without_progress(TRAINING), threads(self._candidate.threads):
            digital = train(self.training(genotype, folder / "digital"))
            trained = train(self.training(genotype, folder / "hwa", init=digital))
        for run in (digital, trained):
            remove_states(run.parent)  # they are as large as many networks
        return self.assess(genotype, trained, folder)

    def assess(self, genotype: Genotype, checkpoint: Path, folder: Path) -> dict[str, float]:
        """Evaluate a trained network on chips.

        Args:
            genotype: genotype of the network.
            checkpoint: checkpoint file of the network.
            folder: output folder for the long table.
        """
        network = load_checkpoint(checkpoint, factories=("subnet",))
        network.info.refuse_leakage(self.task, checkpoint)
        experiment = self.experiment(checkpoint, layers_of(genotype, self._digital_layers))
        table = self._table(network, experiment)
        RESULTS.write(table, folder)
        metrics = chip_metrics(table, experiment.metrics) | self.count(genotype)
        if self._uncertainty:
            metrics["uncertainty"] = self._mutual_information(network, experiment)
        return metrics

    def count(self, genotype: Genotype) -> dict[str, float]:
        """Return parameters and tiles, and latency and energy of one slice by the profile.

        Raises:
            CoverageError: no layer of the network can be mapped onto a tile.
        """
        if genotype not in self._counts:
            model = build_model(
                "subnet",
                in_channels=self.task.in_channels,
                out_channels=self.task.out_channels,
                spatial_dims=self.task.spatial_dims,
                genotype=genotype.to_dict(),
            )
            digital = layers_of(genotype, self._digital_layers)
            self._counts[genotype] = self._count(model, digital)
        return dict(self._counts[genotype])

    def training(self, genotype: Genotype, folder: Path, init: Path | None = None) -> TrainConfig:
        """Return the settings of a training run: digital, or hardware-aware from ``init``."""
        candidate = self._candidate
        epochs = candidate.hwa_epochs if init else candidate.epochs
        return TrainConfig(
            task=self._task_config,
            model=ModelConfig("subnet", {"genotype": genotype.to_dict()}),
            training="hwa" if init else "digital",
            init=init,
            hardware=self._hardware,
            digital_layers=layers_of(genotype, self._digital_layers),
            epochs=epochs,
            batch_size=candidate.batch_size,
            optimizer=candidate.optimizer,
            loss=candidate.loss,
            loading=candidate.loading,
            noise=candidate.noise,
            calibration=candidate.calibration,
            validate_every=max(1, epochs // 2),
            backend=self._backend,  # type: ignore[arg-type]
            device=self._device,
            restart=True,
            seed=self._seed,
            out=folder,
        )

    def experiment(self, checkpoint: Path, digital_layers: tuple[str, ...] = ()) -> Experiment:
        """Return the settings of the evaluation of a network, with its digital layers."""
        candidate = self._candidate
        return Experiment(
            task=self._task_config,
            checkpoints=(checkpoint,),
            metrics=tuple(dict.fromkeys((self.task.primary_metric, *self._metrics))),
            hardware=self._hardware,
            sweep=SweepConfig(chips=candidate.chips, times_s=TIMES_S, reads=candidate.reads),
            calibration=candidate.calibration,
            digital_layers=digital_layers,
            backend=self._backend,  # type: ignore[arg-type]
            device=self._device,
            batch_size=candidate.batch_size,
            seed=self._seed,
        )

    @cached_property
    def _cases(self) -> Cases:
        return Cases(self.task)

    def _table(self, network: Checkpoint, experiment: Experiment) -> pd.DataFrame:
        """Return the long results table: the digital run, and all chips at all times."""
        with one_thread():
            analog = make_analog(network, experiment, self.task)
            return chip_table(network, analog, self._cases, experiment)

    def _mutual_information(self, network: Checkpoint, experiment: Experiment) -> float:
        """Return the mean over voxels, cases, chips and reads at one day, in nats."""
        sweep = SweepConfig(experiment.sweep.chips, (DAY_S,), experiment.sweep.reads)
        config = UncertaintyConfig(
            task=experiment.task,
            checkpoints=experiment.checkpoints,
            hardware=experiment.hardware,
            sweep=sweep,
            calibration=experiment.calibration,
            digital_layers=experiment.digital_layers,
            backend=experiment.backend,
            device=experiment.device,
            batch_size=experiment.images_per_pass,
            seed=experiment.seed,
        )
        with one_thread():
            passes = passes_of("chips", [network], config, self.task)
            assert passes is not None
            found = [
                maps.mutual_information.ravel()
                for _, _, maps in maps_of(passes, list(self._cases), self.task, config, _nothing)
            ]
        return float(np.concatenate(found).mean())

    def _count(self, model: nn.Module, digital: tuple[str, ...]) -> dict[str, float]:
        shape = (1, self.task.in_channels, *self.task.window)
        lay = partial(
            map_tiles,
            model,
            shape,
            row_split="even",
            digital_layers=digital,
            row_copies=self._hardware.row_copies,
        )
        own = lay(self._hardware.tile_shape).summary()
        cost = estimate(lay(self._profile.tile_size), self._profile, self._level)
        return {
            "parameters": float(own["parameters"]),
            "tiles": float(own["tiles"]),
            "latency_ms": 1e3 * cost.latency_s,
            "energy_mj": 1e3 * cost.stack_j(1),
        }


def chip_metrics(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """Return the estimates in the long results table of one network, without undefined ones.

    Those whose name contains no metric are of the primary one; they also have a name with it.

    Args:
        table: long results table.
        metrics: metrics of the table, the primary one of the task first.

    Raises:
        DataError: the primary metric is undefined in all cases on chips, for instance because no
            case contains anything to segment, or no class has positive and negative images.
    """
    found: dict[str, float] = {}
    for metric in metrics:
        run = next(network_runs(table, metric))
        for one in shown_in("search"):
            value = _estimated(one, run)
            if not np.isnan(value):
                found[one.column(metric, primary=metric == metrics[0])] = float(value)
                found[one.column(metric, primary=False)] = float(value)
    if f"{metrics[0]}_1d" not in found:
        raise DataError(
            f"{label_of(metrics[0])} is undefined in all selection cases after a day on the chip; "
            "expected a case that contains something to segment, or positive and negative images "
            "of a class"
        )
    return found


def _estimated(estimate: Estimate, run: NetworkRun) -> float:
    """Return an estimate without its interval; NaN for a gain, which needs another network."""
    terms = [run.term(term) for term in estimate.terms]
    if estimate.formula == "spread":
        return std_between_chips(*terms, patients=run.patients).estimate
    means = [_mean(values) for values in terms]
    if estimate.formula == "drop" and is_lower_better(run.metric):
        means.reverse()
    if estimate.formula in ("difference", "drop"):
        return means[0] - means[1]
    if estimate.formula == "ratio":
        return means[0] / means[1] if means[1] else float("nan")
    return means[0] if estimate.formula == "mean" else float("nan")


def _mean(values: np.ndarray) -> float:
    """Return the mean over chips of the mean over cases; NaN where nothing is defined."""
    defined = values[~np.isnan(values).all(axis=1)] if values.ndim > 1 else values
    return float(np.nanmean(defined)) if (~np.isnan(defined)).any() else float("nan")


def _nothing(*_: object) -> None:
    """Ignore progress reports."""
