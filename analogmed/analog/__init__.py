"""The analog core: hardware description, layers on tiles, conversion, calibration, chips."""

from analogmed.analog.aihwkit_layers import from_aihwkit, to_aihwkit
from analogmed.analog.aihwkit_training import ignore_unused_parameters
from analogmed.analog.calibrate import calibrate
from analogmed.analog.chip import Chip, ChipReading
from analogmed.analog.clip import WeightClipper
from analogmed.analog.convert import convert
from analogmed.analog.coverage import Coverage, coverage, left_digital
from analogmed.analog.rpu import PRESETS, Hardware, create_rpu_config
from analogmed.analog.training_noise import TrainingNoise

__all__ = [
    "PRESETS",
    "Chip",
    "ChipReading",
    "Coverage",
    "Hardware",
    "TrainingNoise",
    "WeightClipper",
    "calibrate",
    "convert",
    "coverage",
    "create_rpu_config",
    "from_aihwkit",
    "ignore_unused_parameters",
    "left_digital",
    "to_aihwkit",
]
