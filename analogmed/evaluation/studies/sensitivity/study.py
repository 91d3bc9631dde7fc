"""Sensitivity study: from its settings to its tables, figures and run folder."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analogmed.evaluation.preparation import prepare
from analogmed.evaluation.studies.sensitivity.ablations import list_ablations
from analogmed.evaluation.studies.sensitivity.compute import (
    AblationCompute,
    AblationPlan,
    ablation_rounds,
    layers_on_tiles,
)
from analogmed.evaluation.studies.sensitivity.ranking import rank
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.evaluation.unit_runs import describe_reuse, open_store, run_units
from analogmed.execution.run_folder import RunFolder, in_run_folder
from analogmed.foundation.settings.forms import takes_keywords
from analogmed.report import sensitivity_heat_map, source_bars
from analogmed.tables.sensitivity import RANKING, SETTINGS

_LAYERS, _SOURCES = "figures/layers.png", "figures/sources.png"


@dataclass(frozen=True)
class SensitivityResult:
    """Results of the sensitivity study of layers and noise sources.

    Attributes:
        config: settings of the study.
        table: one row per setting, subject, chip, time, read, case and class.
        reuse: sentence about units that are reused from an earlier run; empty if all are new.
    """

    config: SensitivityConfig
    table: pd.DataFrame
    reuse: str = ""

    def ranking(self) -> pd.DataFrame:
        """Rank layers and noise sources by their loss of the primary metric; see ``rank``."""
        config = self.config
        return rank(self.table, metric=config.primary_metric, seed=config.seed)

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and figures into a run folder.

        Figures of an earlier run that this one does not draw are removed.

        Raises:
            ConfigError: a file of such a name exists that no run has written.
        """
        ranking = self.ranking()
        run = _run_folder(folder)
        run.renew(self.config)
        run.write(SETTINGS, self.table)
        run.write(RANKING, ranking)
        if "layers" in self.config.parts:
            sensitivity_heat_map(ranking, folder / _LAYERS, metric=self.config.primary_metric)
        if "sources" in self.config.parts:
            source_bars(ranking, folder / _SOURCES, metric=self.config.primary_metric)


def _run_folder(folder: Path) -> RunFolder:
    return RunFolder(folder, [SETTINGS, RANKING], [_LAYERS, _SOURCES])


@takes_keywords
@in_run_folder
def sensitivity(config: SensitivityConfig) -> SensitivityResult:
    """Run a network with one layer analog or digital, and with one noise source on or off.

    Finished units (the digital run, or one chip with all settings of one hardware) of an
    interrupted run are taken from the store.

    Args:
        config: layers, noise sources, data and hardware. Its fields can be given as keywords
            instead.

    Returns:
        The results, as written into the run folder.

    Raises:
        ConfigError: settings conflict, or the run folder cannot be written or contains files of
            other origin.
        CoverageError: no layer of the network can be mapped onto a tile.
        DataError: a case cannot be read. CheckpointError: a network cannot be read.
        LeakageError: the network has been trained on a test patient.
        KeyboardInterrupt: the run was interrupted; the message reports the number of stored units.
    """
    _run_folder(config.folder).begin()
    store = open_store(config)
    prepared = prepare(config, networks="one")
    config, task, (checkpoint,) = prepared.config, prepared.task, prepared.checkpoints
    layers, _ = layers_on_tiles(checkpoint, config, task)
    settings = list_ablations(config, layers)
    rounds = ablation_rounds(AblationPlan(config, task, checkpoint), settings)
    done = run_units(rounds, AblationCompute, config, task, store, cases=len(task.test))
    found = SensitivityResult(config, done.value, describe_reuse(done, config))
    found.write(config.folder)
    return found
