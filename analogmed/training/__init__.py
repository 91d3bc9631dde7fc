"""One training loop for digital and hardware-aware training, and the checkpoints that it writes."""

from analogmed.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_trained_ranges,
    save_checkpoint,
)
from analogmed.training.checkpoint_info import CheckpointInfo
from analogmed.training.config import (
    LoadingConfig,
    LossConfig,
    NoiseConfig,
    OptimizerConfig,
    TrainConfig,
)
from analogmed.training.loop import train
from analogmed.training.tile_parameters import load_input_ranges, load_out_scales

__all__ = [
    "Checkpoint",
    "CheckpointInfo",
    "LoadingConfig",
    "LossConfig",
    "NoiseConfig",
    "OptimizerConfig",
    "TrainConfig",
    "load_checkpoint",
    "load_input_ranges",
    "load_out_scales",
    "load_trained_ranges",
    "save_checkpoint",
    "train",
]
