"""analogmed: what is left of a medical segmentation network on an analog chip.

>>> import analogmed as am
>>> model = am.build_model("unet", in_channels=3, out_channels=1, features=8)
>>> analog = am.convert(model, am.create_rpu_config("pcm", tile_size=256))
>>> am.coverage(analog).weight_share
1.0

Importing this package imports neither torch nor aihwkit; each name brings what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analogmed.analog import Chip, calibrate, convert, coverage, create_rpu_config
    from analogmed.config import Experiment
    from analogmed.data import load_task
    from analogmed.evaluation import evaluate
    from analogmed.hardware import map_tiles
    from analogmed.models import build_model
    from analogmed.training import (
        CheckpointInfo,
        TrainConfig,
        load_checkpoint,
        load_input_ranges,
        save_checkpoint,
    )

_HOMES = {
    "Chip": "analog",
    "calibrate": "analog",
    "convert": "analog",
    "coverage": "analog",
    "create_rpu_config": "analog",
    "Experiment": "config",
    "CheckpointInfo": "training",
    "TrainConfig": "training",
    "load_task": "data",
    "evaluate": "evaluation",
    "map_tiles": "hardware",
    "build_model": "models",
    "load_checkpoint": "training",
    "load_input_ranges": "training",
    "save_checkpoint": "training",
}

__all__ = [
    "CheckpointInfo",
    "Chip",
    "Experiment",
    "TrainConfig",
    "build_model",
    "calibrate",
    "convert",
    "coverage",
    "create_rpu_config",
    "evaluate",
    "load_checkpoint",
    "load_input_ranges",
    "load_task",
    "map_tiles",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analogmed' has no attribute '{name}'")
    return getattr(import_module(f"analogmed.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
