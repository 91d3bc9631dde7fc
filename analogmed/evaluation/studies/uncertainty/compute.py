"""Computation of the units of the uncertainty measurement: one source of passes of one network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from torch import Tensor

from analogmed.data import Sample, Task
from analogmed.evaluation.deploy import digital_layers_of
from analogmed.evaluation.passes import Pass
from analogmed.evaluation.session import Cases
from analogmed.evaluation.studies.uncertainty.calibration import Voxels
from analogmed.evaluation.studies.uncertainty.passes import expected_passes, maps_of, passes_of
from analogmed.evaluation.studies.uncertainty.scores import SCALED, scaled_maps
from analogmed.evaluation.studies.uncertainty.settings import Source, UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.storage import SourceResult
from analogmed.evaluation.studies.uncertainty.temperature import (
    fit_temperature,
    fitting_region,
    fitting_voxels,
    scale_thresholds,
    thinning_step,
)
from analogmed.evaluation.unit_inputs import (
    digest_of,
    inputs_of_all,
    inputs_of_chips,
    inputs_of_network,
    threads_of,
    unit_title,
)
from analogmed.evaluation.unit_worker import UnitWorker
from analogmed.execution.compute import Step
from analogmed.execution.store import UnitResult
from analogmed.execution.threads import threads
from analogmed.execution.unit import Unit
from analogmed.kinds.segmentation import classes_of
from analogmed.metrics.case import mean_dice
from analogmed.training import Checkpoint


@dataclass(frozen=True)
class UncertaintyUnit(Unit):
    """One source of passes of one network, or the Dice of each test case by the digital network.

    Attributes:
        checkpoints: files of the networks of one model and training; one file, except for an
            ensemble.
        source: source of the passes; ``None`` for the Dice of each test case.
        ranks: selected case and its rank, of each example.
    """

    checkpoints: tuple[Path, ...]
    source: Source | None
    ranks: tuple[tuple[str, str], ...] = ()


class UncertaintyPlan:
    """Planner of the units; each file is read once.

    Args:
        config: settings of the measurement.
        task: data of the measurement.
        checkpoints: networks of the measurement.

    Raises:
        DataError: a file of a case cannot be read.
    """

    def __init__(
        self, config: UncertaintyConfig, task: Task, checkpoints: Sequence[Checkpoint]
    ) -> None:
        self._config = config
        self._inputs = inputs_of_units(config, task)
        self._networks = {each.path: inputs_of_network(each) for each in checkpoints}

    def dice(self, network: Checkpoint) -> UncertaintyUnit:
        """Return the unit that computes the Dice of each test case by the digital network."""
        return self._unit([network], None, 1, {})

    def source(
        self, source: Source, members: Sequence[Checkpoint], ranks: Mapping[str, str]
    ) -> UncertaintyUnit:
        """Return the unit of a source.

        Args:
            source: source of the passes.
            members: networks of one model and training.
            ranks: rank of each selected case.
        """
        passes = expected_passes(source, members, self._config)
        used = members if source == "ensemble" else members[:1]
        return self._unit(used, source, passes, ranks)

    def _unit(
        self,
        members: Sequence[Checkpoint],
        source: Source | None,
        passes: int,
        ranks: Mapping[str, str],
    ) -> UncertaintyUnit:
        described = {
            **self._inputs,
            "networks": [self._networks[member.path] for member in members],
            "digital_layers": sorted(digital_layers_of(members[0], self._config)),
            "source": source,
            "ranks": dict(ranks),
        }
        title = unit_title(members[0], source or "Dice of each case")
        paths = tuple(member.path for member in members)
        return UncertaintyUnit(described, title, passes, paths, source, tuple(ranks.items()))


def inputs_of_units(config: UncertaintyConfig, task: Task) -> dict[str, Any]:
    """Return the inputs that all units depend on, except source, networks and example cases.

    Raises:
        DataError: a file of a case cannot be read.
    """
    return {
        "study": "uncertainty",
        **inputs_of_all(config, task, __name__),
        **inputs_of_chips(config, task),
        "chips": config.sweep.chips,
        "dropout": config.dropout,
        "temperature": config.temperature,
        "temperature_region": config.temperature_region,
        "validation_digest": digest_of(task.validation),
        "bins": config.bins,
        "margin": config.margin,
        "threads": threads_of(config.engine),
    }


class UncertaintyCompute(UnitWorker[UncertaintyConfig]):
    """Compute of the units; samples are reused from unit to unit."""

    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the units, without their networks, as this process has them."""
        return inputs_of_units(self.config, self.task)

    def forget(self) -> None:
        """Drop the samples, since the data have changed."""
        self._test = Cases(self.task)
        self._validation = Cases(self.task, self.task.validation)

    def __call__(self, unit: UncertaintyUnit, step: Step) -> UnitResult:
        """Return the results of a source, or the Dice of each test case."""
        self.require_inputs(unit)
        members = self.load(zip(unit.checkpoints, unit.description["networks"], strict=True))
        with threads(unit.description["threads"]):
            if unit.source is None:
                return UnitResult(self._dice(members, step))
            found = SourceResult.empty(self.config, self.task, dict(unit.ranks))
            self._measure(unit.source, members, found, step)
        return found.to_tables()

    def _dice(self, members: list[Checkpoint], step: Step) -> pd.DataFrame:
        make_passes = passes_of("deterministic", members, self.config, self.task)
        assert make_passes is not None
        maps = maps_of(make_passes, self._test, self.task, self.config, lambda *_: step())
        rows = [
            (
                sample.case.case_id,
                mean_dice(classes_of(of_case.mean), sample.label, len(self.task.classes)),
            )
            for _, sample, of_case in maps
        ]
        return pd.DataFrame(rows, columns=["case", "dice"])

    def _measure(
        self,
        source: Source,
        members: list[Checkpoint],
        found: SourceResult,
        step: Step,
    ) -> None:
        config, task = self.config, self.task
        make_passes = passes_of(source, members, config, task)
        assert make_passes is not None

        def observe(one: Pass, sample: Sample, prob: Tensor) -> None:
            step()
            if source in ("deterministic", "chips"):
                found.masks.observe(one, sample, prob)

        info = members[0].info
        run = (task.name, info.model, info.training)
        thresholds = _thresholds_of(members)
        region = fitting_region(config, task)
        labels = (task.kind.references(sample.label) for sample in self._validation)
        n = thinning_step(labels, *region)
        fitting: dict[float, list[Voxels]] = {}
        for time_s, sample, maps in maps_of(make_passes, self._validation, task, config, observe):
            if config.temperature:
                voxels = fitting_voxels(maps.mean, sample.label, *region, n)
                fitting.setdefault(time_s, []).append(voxels)
        fitted = {time_s: fit_temperature(cases) for time_s, cases in fitting.items()}
        names = ("task", "model", "training", "source")
        found.temperatures += [
            dict(zip(names, (*run, source), strict=True))
            | {"time_s": time_s, "temperature": temperature}
            for time_s, temperature in fitted.items()
        ]
        for time_s, sample, maps in maps_of(make_passes, self._test, task, config, observe):
            found.scores.add((*run, source, time_s), sample, maps, task, thresholds)
            found.examples.add((*run, source, time_s), sample, maps, task)
            if time_s in fitted:
                scaled = scaled_maps(maps, fitted[time_s])
                limits = scale_thresholds(thresholds, fitted[time_s])
                found.scores.add((*run, source + SCALED, time_s), sample, scaled, task, limits)
        found.scores.finish(task)


def _thresholds_of(members: Sequence[Checkpoint]) -> tuple[float, ...]:
    """Return the threshold of each class, a mean over networks; empty if one has none."""
    known = [member.info.thresholds for member in members]
    return tuple(map(fmean, zip(*known, strict=True))) if all(known) else ()
