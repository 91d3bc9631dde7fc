"""Effect and cost of each mitigation on the chip at each time."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from analogmed.analog import Chip, ChipSnapshot
from analogmed.analog.layers.base import AnalogLayer
from analogmed.analog.settings import CalibrationConfig
from analogmed.data import Sample, Task
from analogmed.evaluation.deploy import calibration_batches, make_analog
from analogmed.evaluation.network_check import check_network
from analogmed.evaluation.passes import chip_seed
from analogmed.evaluation.statistics.intervals import difference, two_way_bootstrap
from analogmed.evaluation.studies.mitigation.corrections import (
    batchnorm_of_chip,
    batchnorms,
    input_ranges_of_chip,
    ranged_layers,
)
from analogmed.evaluation.studies.robustness.study import (
    check_settings,
    checkpoint_paths,
    tell_differences,
)
from analogmed.evaluation.studies.uncertainty.calibration import (
    Voxels,
    band,
    calibration_error,
    flatten,
    negative_log_likelihood,
)
from analogmed.evaluation.studies.uncertainty.passes import Pass, predict
from analogmed.evaluation.studies.uncertainty.scores import mean_dice
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig
from analogmed.evaluation.studies.uncertainty.temperature import (
    fit_temperature,
    fitting_voxels,
    scale,
)
from analogmed.execution.run_folder import in_run_folder, write_environment
from analogmed.foundation.files import ensure_writable, write_text_atomically
from analogmed.foundation.settings.plain import to_yaml
from analogmed.metrics.metric import Bounds
from analogmed.metrics.properties import bounds_of, difference_bounds
from analogmed.report.figures.mitigation import mitigation_gains
from analogmed.tables.results import write_table
from analogmed.training import Checkpoint, load_checkpoint
from analogmed.training.memory import is_out_of_memory

NONE, COMPENSATED, ALL = "none", "drift_compensation", "all"
RUN = ["task", "model", "training"]
METRICS = ("dice", "ece", "nll", "ece_band", "nll_band")
COSTS = ("images", "labelled_images", "passes", "parameters")
LEVEL = 0.95


@dataclass(frozen=True)
class MitigationResult:
    """Results of the mitigation study.

    Attributes:
        config: settings of the study.
        table: one row per network, option, chip, time, read, case and metric.
        costs: one row per network and option: unlabelled and labelled images required at each time,
            passes through the chip, and digital parameters that change.
    """

    config: MitigationConfig
    table: pd.DataFrame
    costs: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Compute mean and gain, with intervals, per network, option, time and metric.

        For drift compensation and for all options together, the gain is relative to ``none``, the
        chip without drift compensation. For the other options, it is relative to drift compensation
        alone. Chips and patients are resampled; both settings use the same draw.
        """
        keys = [*RUN, "time_s", "metric"]
        rows = []
        for key, part in self.table.groupby(keys, sort=False):
            by_option = {name: _wide(rows_) for name, rows_ in part.groupby("option", sort=False)}
            for option, values in by_option.items():
                base = NONE if option in (COMPENSATED, ALL) else COMPENSATED
                where = dict(zip(keys, key, strict=True)) | {"option": option}
                bounds = bounds_of(str(where["metric"])), difference_bounds(str(where["metric"]))
                before = None if option == NONE else by_option[base]
                rows.append(where | _gain(values, before, bounds, self.config.seed))
        return pd.DataFrame(rows).merge(self.costs, on=[*RUN, "option"], how="left")

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and the figure into a run folder."""
        write_text_atomically(folder / "experiment.yaml", to_yaml(self.config))
        write_environment(folder)
        write_table(self.table, folder, "mitigation")
        summary = self.summary()
        write_table(summary, folder, "summary", parquet=False)
        mitigation_gains(summary, folder / "figures" / "mitigation.png")


@in_run_folder
def measure_mitigation(config: MitigationConfig) -> MitigationResult:
    """Run networks on chips with each mitigation, and with all of them.

    Args:
        config: networks, mitigations, data and hardware.

    Returns:
        The results, as written into the run folder. An option that is not applicable to a network
        or a chip, such as BatchNorm statistics of a network without BatchNorm, is skipped with a
        warning.

    Raises:
        ConfigError: settings conflict, or the run folder cannot be written.
        DataError: a case cannot be read. CheckpointError: a network cannot be read.
        LeakageError: a network has been trained on a test patient.
    """
    check_settings(config)
    folder = ensure_writable(config.folder)
    task = config.task.load()
    paths = checkpoint_paths(config)
    config = replace(config, checkpoints=paths)
    test = [task.read(case) for case in task.test]
    validation = [task.read(case) for case in task.validation]
    rows: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    total = len(paths) * config.sweep.chips * len(config.sweep.times_s) * (len(config.options) + 2)
    with tqdm(total=total, unit="setting", disable=None, smoothing=0.05) as progress:
        for path in paths:
            checkpoint = load_checkpoint(path, factories=config.factories)
            checkpoint.info.check_fits(task, path)
            checkpoint.info.refuse_leakage(task, path)
            check_network(checkpoint, task, config)
            tell_differences(checkpoint, task, config)
            bench = _Bench(checkpoint, config, task, test, validation)
            costs += bench.costs()
            rows += bench.run(progress.update)
    found = MitigationResult(config, pd.DataFrame(rows), pd.DataFrame(costs))
    found.write(folder)
    return found


class _Bench:
    """One network on chips with and without drift compensation."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: MitigationConfig,
        task: Task,
        test: list[Sample],
        validation: list[Sample],
    ) -> None:
        self.checkpoint, self.config, self.task = checkpoint, config, task
        self.test, self.validation = test, validation
        kind = config.hardware.drift_compensation
        on = replace(config.hardware, drift_compensation="global" if kind == "none" else kind)
        off = replace(config.hardware, drift_compensation="none")
        self.with_compensation = make_analog(checkpoint, replace(config, hardware=on), task)
        ranges = {
            name: layer.input_range.detach().clone()
            for name, layer in ranged_layers(self.with_compensation).items()
            if layer.input_range is not None
        }
        self.without = make_analog(
            checkpoint, replace(config, hardware=off), task, ranges=ranges or None
        )
        calibration = CalibrationConfig(config.images, config.calibration.quantile)
        looking = replace(config, calibration=calibration)
        images = torch.cat(list(calibration_batches(looking, task)))
        wanted = min(config.images, len(images))
        self.images = images[torch.linspace(0, len(images) - 1, wanted).long()]
        self.options = self._possible()

    def costs(self) -> list[dict[str, Any]]:
        """Return the cost of each option at each time it is applied."""
        images, labelled = len(self.images), sum(len(sample.label) for sample in self.validation)
        model = self.with_compensation
        layers = [m for m in model.modules() if isinstance(m, AnalogLayer)]
        tiles = sum(
            len(la.grid.rows) * len(la.grid.cols) * len(la.weight_matrix()) for la in layers
        )
        statistics = sum(2 * layer.num_features for layer in batchnorms(model))
        ranges = sum(len(layer.grid.rows) for layer in ranged_layers(model).values())
        known = {
            NONE: (0, 0, 0, 0),
            COMPENSATED: (0, 0, 0, tiles),
            "batchnorm": (images, 0, images, statistics),
            "input_ranges": (images, 0, images, ranges),
            "temperature": (0, labelled, labelled, 1),
        }
        known[ALL] = (
            images if {"batchnorm", "input_ranges"} & set(self.options) else 0,
            labelled if "temperature" in self.options else 0,
            sum(known[option][2] for option in self.options),
            sum(known[option][3] for option in self.options),
        )
        return [
            self._run() | {"option": option} | dict(zip(COSTS, known[option], strict=True))
            for option in self._settings()
        ]

    def run(self, on_setting: Any) -> list[dict[str, Any]]:
        """Compute the rows of all chips and times."""
        rows: list[dict[str, Any]] = []
        for number in range(self.config.sweep.chips):
            seed = chip_seed(self.config.seed, self.checkpoint.info.model, number)
            chip = Chip(self.with_compensation, seed=seed)
            plain = Chip(self.without, seed=seed)
            for time_s in self.config.sweep.times_s:
                for option in self._settings():
                    used = plain if option == NONE else chip
                    where = self._run() | {"option": option, "chip": number, "time_s": time_s}
                    rows += [where | row for row in self._option(used, time_s, option)]
                    on_setting()
        return rows

    def _option(self, chip: Chip, time_s: float, option: str) -> Iterator[dict[str, Any]]:
        wanted = self.options if option == ALL else [option]
        with ExitStack() as stack:
            if "input_ranges" in wanted:
                ranges = input_ranges_of_chip(
                    chip.model,
                    self._adjusting(chip, time_s, "input_ranges"),
                    self._batches(),
                    self.config.calibration.quantile,
                )
                stack.enter_context(ranges)
            if "batchnorm" in wanted:
                self._enter_batchnorm(stack, chip, time_s)
            for read in range(self.config.sweep.reads):
                one = Pass(time_s, 0, read, chip.at(time_s, read))
                temperature = self._temperature(one) if "temperature" in wanted else None
                for sample in self.test:
                    prob = predict(one, sample, self.task, self.config).cpu().numpy()
                    prob = prob if temperature is None else scale(prob, temperature)
                    yield from self._rows(prob, sample, read)

    def _adjusting(self, chip: Chip, time_s: float, what: str) -> ChipSnapshot:
        """Return a separate read for the adjustment, numbered after the measured reads."""
        return chip.at(time_s, self.config.sweep.reads).restart(what)

    def _enter_batchnorm(self, stack: ExitStack, chip: Chip, time_s: float) -> None:
        """Estimate BatchNorm statistics from all images at once, or as many as fit into memory."""
        size = len(self.images)
        while True:
            forward = self._adjusting(chip, time_s, "batchnorm")
            batches = self.images.split(size)
            try:
                stack.enter_context(batchnorm_of_chip(chip.model, forward, batches))
                return
            except Exception as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
            size = -(-size // 2)
            warnings.warn(f"batchnorm: out of memory; trying {size} images at once", stacklevel=2)

    def _temperature(self, one: Pass) -> float:
        voxels: list[Voxels] = []
        for sample in self.validation:
            prob = predict(one, sample, self.task, self.config).cpu().numpy()
            region, margin = self.config.temperature_region, self.config.margin
            voxels.append(fitting_voxels(prob, sample.label, region, margin))
        return fit_temperature(voxels)

    def _rows(self, prob: np.ndarray, sample: Sample, read: int) -> Iterator[dict[str, Any]]:
        whole = flatten(prob, sample.label)
        near = flatten(prob, sample.label, band(sample.label, self.config.margin))
        values = (
            mean_dice(prob, sample, self.task),
            calibration_error(whole.confidence, whole.correct),
            negative_log_likelihood(whole),
            calibration_error(near.confidence, near.correct),
            negative_log_likelihood(near),
        )
        case = {"case": sample.case.case_id, "patient": sample.case.patient_id, "read": read}
        for metric, value in zip(METRICS, values, strict=True):
            yield case | {"metric": metric, "value": value}

    def _batches(self) -> Iterator[Tensor]:
        yield from self.images.split(self.config.batch_size)

    def _settings(self) -> list[str]:
        others = [option for option in self.options if option != COMPENSATED]
        return [NONE, COMPENSATED, *others, *([ALL] if len(others) > 1 else [])]

    def _possible(self) -> list[str]:
        missing: dict[str, str] = {}
        if not batchnorms(self.with_compensation):
            missing["batchnorm"] = "has no BatchNorm statistics"
        if not ranged_layers(self.with_compensation):
            missing["input_ranges"] = "runs on hardware without input ranges"
        if not self.validation:
            missing["temperature"] = "has no validation case to fit one"
        for option in self.config.options:
            if option in missing:
                warnings.warn(
                    f"{self.checkpoint.info.model}: {option} is left out, it {missing[option]}",
                    stacklevel=4,
                )
        return [option for option in self.config.options if option not in missing]

    def _run(self) -> dict[str, Any]:
        info = self.checkpoint.info
        return dict(zip(RUN, (self.task.name, info.model, info.training), strict=True))


def _wide(part: pd.DataFrame) -> pd.DataFrame:
    """Return the values indexed by (case, patient) and chip, averaged over reads."""
    return part.groupby(["case", "patient", "chip"])["value"].mean().unstack("chip")


def _gain(
    values: pd.DataFrame, base: pd.DataFrame | None, bounds: tuple[Bounds, Bounds], seed: int
) -> dict[str, Any]:
    """Return the mean and the gain over a base, each with its interval.

    Args:
        values: values indexed by (case, patient) and chip.
        base: values without the mitigation, in the same form; None without a base.
        bounds: bounds of the mean and of the gain.
        seed: seed of the bootstrap.
    """
    shared: dict[str, Any] = {
        "patients": list(values.index.get_level_values("patient")),
        "level": LEVEL,
        "seed": seed,
    }
    array = values.to_numpy(float)
    mean = two_way_bootstrap(array, bounds=bounds[0], **shared)
    row: dict[str, Any] = {"value": mean.estimate, "value_low": mean.low, "value_high": mean.high}
    row |= dict.fromkeys(("gain", "gain_low", "gain_high"), np.nan)
    if base is not None:
        before = base.reindex(index=values.index, columns=values.columns).to_numpy(float)
        gain = two_way_bootstrap(array, before, statistic=difference, bounds=bounds[1], **shared)
        row |= {"gain": gain.estimate, "gain_low": gain.low, "gain_high": gain.high}
    return row | {"n_patients": mean.n_patients, "n_chips": mean.n_chips, "level": LEVEL}
