"""One training loop for digital and hardware-aware training, and the checkpoints that it writes."""

from analogmed.training.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    load_input_ranges,
    save_checkpoint,
)
from analogmed.training.config import (
    LoadingConfig,
    LossConfig,
    NoiseConfig,
    OptimizerConfig,
    TrainConfig,
)
from analogmed.training.loop import train

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
    "save_checkpoint",
    "train",
]
