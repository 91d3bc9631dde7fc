"""Sensitivity study: from its settings to its tables, figures and run folder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pandas as pd
from tqdm import tqdm

from analogmed.data import Task
from analogmed.evaluation.deploy import digital_layers_of
from analogmed.evaluation.network_check import check_network
from analogmed.evaluation.studies.robustness.study import (
    check_settings,
    checkpoint_paths,
    tell_differences,
)
from analogmed.evaluation.studies.sensitivity.ablations import Bench, list_ablations
from analogmed.evaluation.studies.sensitivity.ranking import rank, to_settings_table
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.execution.run_folder import in_run_folder, write_environment
from analogmed.foundation.files import ensure_writable, write_text_atomically
from analogmed.foundation.settings.plain import to_yaml
from analogmed.report import sensitivity_heat_map, source_bars
from analogmed.tables.results import write_table
from analogmed.training import Checkpoint, load_checkpoint

Config = TypeVar("Config", bound=SensitivityConfig)


@dataclass(frozen=True)
class SensitivityResult:
    """Results of the sensitivity study of layers and noise sources.

    Attributes:
        config: settings of the study.
        table: one row per setting, subject, chip, time, read, case and class.
    """

    config: SensitivityConfig
    table: pd.DataFrame

    def ranking(self) -> pd.DataFrame:
        """Rank layers and noise sources by their Dice drop; see ``rank``."""
        return rank(self.table, seed=self.config.seed)

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and figures into a run folder."""
        ranking = self.ranking()
        write_run(self.config, folder)
        write_table(self.table, folder, "results")
        write_table(ranking, folder, "ranking", parquet=False)
        if "layers" in self.config.parts:
            sensitivity_heat_map(ranking, folder / "figures" / "layers.png")
        if "sources" in self.config.parts:
            source_bars(ranking, folder / "figures" / "sources.png")


@in_run_folder
def sensitivity(config: SensitivityConfig) -> SensitivityResult:
    """Run a network with one layer analog or digital, and with one noise source on or off.

    Args:
        config: layers, noise sources, data and hardware.

    Returns:
        The results, as written into the run folder.

    Raises:
        ConfigError: settings conflict, or the run folder cannot be written.
        CoverageError: no layer of the network can be mapped onto a tile.
        DataError: a case cannot be read. CheckpointError: a network cannot be read.
        LeakageError: the network has been trained on a test patient.
    """
    folder = ensure_writable(config.folder)
    config, checkpoint, task = prepare(config)
    found = look(Bench(checkpoint, config, task), config)
    found.write(folder)
    return found


def look(bench: Bench, config: SensitivityConfig) -> SensitivityResult:
    """Run all settings on a bench, with a progress bar."""
    settings = list_ablations(config, bench.layers)
    total = bench.runs(settings) + len(bench.cases)
    with tqdm(total=total, unit="case", disable=None, smoothing=0.05) as progress:
        rows = bench.digital(progress.update) + bench.run(settings, progress.update)
    return SensitivityResult(config, to_settings_table(rows))


def prepare(config: Config) -> tuple[Config, Checkpoint, Task]:
    """Load network and data, check them, and return them with the completed settings."""
    check_settings(config)
    task = config.task.load()
    path = config.checkpoints[0] if config.checkpoints else _shipped(config)
    checkpoint = load_checkpoint(path, factories=config.factories)
    checkpoint.info.check_fits(task, checkpoint.path)
    checkpoint.info.refuse_leakage(task, checkpoint.path)
    check_network(checkpoint, task, config)
    tell_differences(checkpoint, task, config)
    digital = digital_layers_of(checkpoint, config)
    config = replace(config, checkpoints=(checkpoint.path,), digital_layers=digital)
    return config, checkpoint, task


def write_run(config: SensitivityConfig, folder: Path) -> None:
    """Write settings and environment into a run folder."""
    write_text_atomically(folder / "experiment.yaml", to_yaml(config))
    write_environment(folder)


def _shipped(config: SensitivityConfig) -> Path:
    """Return the shipped U-Net of the task, or else its first shipped network."""
    found = checkpoint_paths(config)
    digital = [path for path in found if path.stem == "unet-digital"]
    return (digital or list(found))[0]
