"""Accuracy of medical segmentation networks on analog in-memory computing chips.

>>> import analogmed as am
>>> model = am.build_model("unet", in_channels=3, out_channels=1, features=8)
>>> analog = am.convert(model, am.create_rpu_config("pcm", tile_size=256))
>>> am.coverage(analog).weight_share
1.0

Importing this package imports neither torch nor aihwkit; each name brings what it needs.
"""

from typing import TYPE_CHECKING, Any

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.analog.calibration import calibrate as calibrate
    from analogmed.analog.chip import Chip as Chip
    from analogmed.analog.conversion import convert as convert
    from analogmed.analog.description.aihwkit_config import create_rpu_config as create_rpu_config
    from analogmed.analog.digital_layers import coverage as coverage
    from analogmed.data.tasks import load_task as load_task
    from analogmed.evaluation.loader.robustness import robustness as robustness
    from analogmed.evaluation.settings import Experiment as Experiment
    from analogmed.evaluation.studies.robustness.study import evaluate as evaluate
    from analogmed.foundation.process import keep_freed_memory as keep_freed_memory
    from analogmed.hardware.mapping import map_tiles as map_tiles
    from analogmed.models.registry import build_model as build_model
    from analogmed.training.checkpoint.checkpoint import load_checkpoint as load_checkpoint
    from analogmed.training.checkpoint.checkpoint import save_checkpoint as save_checkpoint
    from analogmed.training.checkpoint.info import CheckpointInfo as CheckpointInfo
    from analogmed.training.checkpoint.tile_parameters import load_input_ranges as load_input_ranges
    from analogmed.training.settings import TrainConfig as TrainConfig

_exported, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CheckpointInfo": "training.checkpoint.info",
        "Chip": "analog.chip",
        "Experiment": "evaluation.settings",
        "TrainConfig": "training.settings",
        "build_model": "models.registry",
        "calibrate": "analog.calibration",
        "convert": "analog.conversion",
        "coverage": "analog.digital_layers",
        "create_rpu_config": "analog.description.aihwkit_config",
        "evaluate": "evaluation.studies.robustness.study",
        "keep_freed_memory": "foundation.process",
        "load_checkpoint": "training.checkpoint.checkpoint",
        "load_input_ranges": "training.checkpoint.tile_parameters",
        "load_task": "data.tasks",
        "map_tiles": "hardware.mapping",
        "robustness": "evaluation.loader.robustness",
        "save_checkpoint": "training.checkpoint.checkpoint",
    },
)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _exported(name)
    from importlib.metadata import version

    return version("analogmed")
