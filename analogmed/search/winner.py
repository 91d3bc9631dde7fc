"""Winner of a search, trained for longer and stored as a run folder that an evaluation accepts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from analogmed.evaluation.settings import Experiment
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.settings.paths import read_settings, write_settings
from analogmed.models import Genotype
from analogmed.search.digital_layers import layers_of
from analogmed.search.evaluator import make_evaluator
from analogmed.search.results import trial_folder
from analogmed.search.settings import SearchConfig
from analogmed.search.trials.journal_lock import FileLock
from analogmed.training import TrainConfig, train
from analogmed.training.settings import SETTINGS
from analogmed.training.state.state import remove_states

BEST, WINNER = "best", "winner.json"


def train_winner(config: SearchConfig, number: int, genotype: Genotype) -> Path:
    """Train the winner for ``final_epochs``, digitally and for the chip, or copy its trial.

    It is trained on all patients except those of the task's test split, so that it may be tested on
    these. An interrupted training is resumed. Without ``final_epochs``, the trial's networks are
    copied.

    Args:
        config: settings of the search.
        number: number of the winner's trial.
        genotype: genotype of the winner.

    Returns:
        run folder of the winner; its folder ``digital`` has the digital network it started from.
    """
    folder = config.folder / BEST
    with FileLock(config.folder / "locks" / BEST).held():
        wanted = {"genotype": genotype.to_dict(), "final_epochs": config.final_epochs}
        if _read(folder / WINNER) != wanted:
            for stage in (folder, folder / "digital"):
                remove_states(stage)
            write_text_atomically(folder / WINNER, json.dumps(wanted, indent=1) + "\n")
        if config.final_epochs:
            train(_training(config, genotype, folder))
        else:
            trial = trial_folder(config.folder, number, genotype)
            for source, stage in ((trial / "hwa", folder), (trial / "digital", folder / "digital")):
                shutil.copytree(source, stage, dirs_exist_ok=True)
                # its paths are relative to the file
                write_settings(stage / SETTINGS, read_settings(TrainConfig, source / SETTINGS))
    return folder


def evaluation_of(config: SearchConfig, winner: Path, genotype: Genotype) -> Experiment:
    """Return the settings of the evaluation of a winner on the test patients.

    Data, split and hardware are those of the search. The seed differs from that of the search, so
    that the winner is not tested on chips that selected it.

    Args:
        config: settings of the search.
        winner: run folder of the winner.
        genotype: genotype of the winner.
    """
    return Experiment(
        task=config.task,
        checkpoints=(winner / "digital", winner),
        hardware=config.hardware,
        digital_layers=layers_of(genotype, config.digital_layers) or None,
        profile=config.profile,
        level=config.level,
        device=config.device,
        seed=config.seed + 1,
        out=config.folder / "eval",
    )


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _training(config: SearchConfig, genotype: Genotype, folder: Path) -> TrainConfig:
    epochs = config.final_epochs
    return replace(
        make_evaluator(config, config.task).training(genotype, folder),
        training="hwa",
        epochs=epochs,
        validate_every=max(1, epochs // 8),
        restart=False,
    )
