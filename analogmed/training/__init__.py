"""Training loop for digital and hardware-aware training, and the checkpoints that it writes."""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.training.checkpoint.checkpoint import Checkpoint as Checkpoint
    from analogmed.training.checkpoint.checkpoint import load_checkpoint as load_checkpoint
    from analogmed.training.checkpoint.checkpoint import load_trained_ranges as load_trained_ranges
    from analogmed.training.checkpoint.checkpoint import save_checkpoint as save_checkpoint
    from analogmed.training.checkpoint.info import CheckpointInfo as CheckpointInfo
    from analogmed.training.checkpoint.tile_parameters import load_input_ranges as load_input_ranges
    from analogmed.training.checkpoint.tile_parameters import load_out_scales as load_out_scales
    from analogmed.training.network_run import train as train
    from analogmed.training.settings import LoadingConfig as LoadingConfig
    from analogmed.training.settings import LossConfig as LossConfig
    from analogmed.training.settings import NoiseConfig as NoiseConfig
    from analogmed.training.settings import OptimizerConfig as OptimizerConfig
    from analogmed.training.settings import TrainConfig as TrainConfig

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "checkpoint.checkpoint",
        "CheckpointInfo": "checkpoint.info",
        "LoadingConfig": "settings",
        "LossConfig": "settings",
        "NoiseConfig": "settings",
        "OptimizerConfig": "settings",
        "TrainConfig": "settings",
        "load_checkpoint": "checkpoint.checkpoint",
        "load_input_ranges": "checkpoint.tile_parameters",
        "load_out_scales": "checkpoint.tile_parameters",
        "load_trained_ranges": "checkpoint.checkpoint",
        "save_checkpoint": "checkpoint.checkpoint",
        "train": "network_run",
    },
)
