"""Uncertainty measurement: from its settings to its tables, figures and run folder."""

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from analogmed.data import Case, Sample, Task
from analogmed.evaluation.network_check import check_network
from analogmed.evaluation.studies.robustness.study import (
    check_settings,
    checkpoint_paths,
    tell_differences,
)
from analogmed.evaluation.studies.uncertainty.calibration import Voxels
from analogmed.evaluation.studies.uncertainty.conformal import needed
from analogmed.evaluation.studies.uncertainty.conformal_table import (
    ConformalCounts,
    summarise_conformal,
)
from analogmed.evaluation.studies.uncertainty.examples import Examples
from analogmed.evaluation.studies.uncertainty.maps import UncertaintyMaps
from analogmed.evaluation.studies.uncertainty.passes import (
    Observe,
    expected_passes,
    maps_of,
    passes_of,
)
from analogmed.evaluation.studies.uncertainty.scores import SCALED, Scores, mean_dice, scaled_maps
from analogmed.evaluation.studies.uncertainty.settings import Source, UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.summary import (
    compare_trainings,
    summarise_uncertainty,
)
from analogmed.evaluation.studies.uncertainty.temperature import fit_temperature, fitting_voxels
from analogmed.execution.run_folder import in_run_folder, write_environment
from analogmed.foundation.files import ensure_writable, write_text_atomically
from analogmed.foundation.settings.plain import to_yaml
from analogmed.report.figures.uncertainty import draw_uncertainty
from analogmed.tables.results import write_table
from analogmed.training import Checkpoint, load_checkpoint


@dataclass
class UncertaintyResult:
    """Results of the uncertainty measurement.

    Attributes:
        config: settings of the measurement.
        scores: metrics of all cases.
        examples: example slices.
        conformal: missed shares of conformal masks, one row per network, calibration of the
            threshold, time, chip, class and patient.
        temperatures: fitted temperature of each network, source and time.
    """

    config: UncertaintyConfig
    scores: Scores
    examples: Examples
    conformal: list[dict[str, Any]] = field(default_factory=list)
    temperatures: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> pd.DataFrame:
        """Return means with intervals; see ``summarise_uncertainty``."""
        return summarise_uncertainty(self.scores, seed=self.config.seed)

    def comparison(self) -> pd.DataFrame:
        """Compare hardware-aware with digital training; see ``compare_trainings``."""
        return compare_trainings(self.scores.table(), seed=self.config.seed)

    def conformal_summary(self) -> pd.DataFrame:
        """Return the mean missed shares of conformal masks; see ``summarise_conformal``."""
        table = pd.DataFrame(self.conformal)
        return summarise_conformal(table, self.config.alpha, seed=self.config.seed)

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and figures into a run folder."""
        write_text_atomically(folder / "experiment.yaml", to_yaml(self.config))
        write_environment(folder)
        write_table(self.scores.table(), folder, "uncertainty")
        tables = {
            "summary": self.summary(),
            "comparison": self.comparison(),
            "density": self.scores.density_table(),
            "reliability": self.scores.reliability_table(),
            "risk_coverage": self.scores.risk_table(),
            "temperatures": pd.DataFrame(self.temperatures),
            "conformal": pd.DataFrame(self.conformal),
            "conformal_summary": self.conformal_summary(),
        }
        for name, table in tables.items():
            if not table.empty:
                write_table(table, folder, name, parquet=False)
        self.examples.write(folder)
        draw_uncertainty(folder)


@in_run_folder
def measure_uncertainty(config: UncertaintyConfig) -> UncertaintyResult:
    """Measure predictive uncertainty and calibration of networks, digitally and on chips.

    Args:
        config: networks, data, hardware and passes.

    Returns:
        The results, as written into the run folder.

    Raises:
        ConfigError: settings conflict, or the run folder cannot be written.
        DataError: a case cannot be read. CheckpointError: a network cannot be read.
        LeakageError: a network has been trained on a test patient.
        NonFiniteError: a network returns NaN or Inf; the message names the case.
    """
    check_settings(config)
    folder = ensure_writable(config.folder)
    task = config.task.load()
    networks = _load(config, task)
    paths = tuple(member.path for members in networks for member in members)
    config = replace(config, checkpoints=paths)
    bench = _Bench(config, task)
    total = sum(
        expected_passes(source, members, config)
        for members in networks
        for source in config.sources
    )
    cases = len(bench.test) + len(bench.validation)
    with tqdm(total=total * cases, unit="case", disable=None, smoothing=0.05) as progress:
        found = bench.run(networks, lambda *_: progress.update())
    found.write(folder)
    return found


class _Bench:
    """Cases, and the networks that run on them in turn."""

    def __init__(self, config: UncertaintyConfig, task: Task) -> None:
        self.config, self.task = config, task
        self.test = _read(task, task.test)
        self.validation = _read(task, task.validation)
        if not self.validation:
            warnings.warn(
                f"{task.name} has no validation case: no temperature is fitted", stacklevel=3
            )
        self._tell_few_units()

    def run(self, networks: list[list[Checkpoint]], on_case: Observe) -> UncertaintyResult:
        config = self.config
        examples = Examples.chosen(self._digital_dice(networks[0]))
        found = UncertaintyResult(config, Scores(config.bins, config.margin), examples)
        for members in networks:
            info = members[0].info
            run = {"task": self.task.name, "model": info.model, "training": info.training}
            ledger = ConformalCounts(self.task)
            for source in config.sources:
                self._run_source(source, members, found, ledger, on_case)
            rows = ledger.evaluate(
                _patients(self.validation),
                _patients(self.test),
                config.alpha,
                leave_one_out=config.conformal_cases == "leave_one_out",
            )
            found.conformal += [run | row for row in rows]
        return found

    def _run_source(
        self,
        source: Source,
        members: list[Checkpoint],
        found: UncertaintyResult,
        ledger: ConformalCounts,
        on_case: Observe,
    ) -> None:
        make_passes = passes_of(source, members, self.config, self.task)
        if make_passes is None:
            return
        observers = [on_case]
        if source in ("deterministic", "chips"):
            observers.append(ledger.observe)

        def observe(*seen: Any) -> None:
            for observer in observers:
                observer(*seen)

        info = members[0].info
        run = (self.task.name, info.model, info.training)
        fitting: dict[float, list[Voxels]] = {}
        for time_s, sample, maps in self._maps(make_passes, self.validation, observe):
            voxels = fitting_voxels(
                maps.mean, sample.label, self.config.temperature_region, self.config.margin
            )
            fitting.setdefault(time_s, []).append(voxels)
        fitted = {}
        if self.config.temperature:
            fitted = {time_s: fit_temperature(cases) for time_s, cases in fitting.items()}
        found.temperatures += [
            dict(zip(("task", "model", "training", "source"), (*run, source), strict=True))
            | {"time_s": time_s, "temperature": temperature}
            for time_s, temperature in fitted.items()
        ]
        for time_s, sample, maps in self._maps(make_passes, self.test, observe):
            found.scores.add((*run, source, time_s), sample, maps, self.task)
            found.examples.add((*run, source, time_s), sample, maps, self.task)
            if time_s in fitted:
                scaled: UncertaintyMaps = scaled_maps(maps, fitted[time_s])
                found.scores.add((*run, source + SCALED, time_s), sample, scaled, self.task)

    def _maps(self, make_passes: Any, samples: list[Sample], observe: Observe) -> Any:
        return maps_of(make_passes, samples, self.task, self.config, observe)

    def _digital_dice(self, members: list[Checkpoint]) -> dict[str, float]:
        make_passes = passes_of("deterministic", members, self.config, self.task)
        assert make_passes is not None
        return {
            sample.case.case_id: mean_dice(maps.mean, sample, self.task)
            for _, sample, maps in self._maps(make_passes, self.test, lambda *_: None)
        }

    def _tell_few_units(self) -> None:
        config, units = self.config, len(_patients(self.validation))
        if config.conformal_cases == "leave_one_out":
            units += len(_patients(self.test)) - 1
        if units < needed(config.alpha):
            warnings.warn(
                f"{units} patients set the threshold of the conformal masks, but alpha "
                f"{config.alpha:g} needs {needed(config.alpha)}: every voxel is marked; give "
                "--conformal_cases leave_one_out, a larger --alpha, or more validation patients",
                stacklevel=4,
            )


def _load(config: UncertaintyConfig, task: Task) -> list[list[Checkpoint]]:
    """Load the checkpoints, grouped by model and training."""
    networks: dict[tuple[str, str], list[Checkpoint]] = {}
    for path in checkpoint_paths(config):
        checkpoint = load_checkpoint(path, factories=config.factories)
        checkpoint.info.check_fits(task, checkpoint.path)
        checkpoint.info.refuse_leakage(task, checkpoint.path)
        check_network(checkpoint, task, config)
        tell_differences(checkpoint, task, config)
        key = (checkpoint.info.model, checkpoint.info.training)
        networks.setdefault(key, []).append(checkpoint)
    return list(networks.values())


def _read(task: Task, cases: tuple[Case, ...]) -> list[Sample]:
    return [task.read(case) for case in cases]


def _patients(samples: list[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.case.patient_id for sample in samples))
