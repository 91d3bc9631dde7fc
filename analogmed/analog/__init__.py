"""Analog core: hardware description, layers on tiles, conversion, calibration and chips."""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.analog.aihwkit_backend.layers import from_aihwkit as from_aihwkit
    from analogmed.analog.aihwkit_backend.layers import to_aihwkit as to_aihwkit
    from analogmed.analog.aihwkit_backend.training import (
        ignore_unused_parameters as ignore_unused_parameters,
    )
    from analogmed.analog.calibration import calibrate as calibrate
    from analogmed.analog.chip import Chip as Chip
    from analogmed.analog.chip import ChipSnapshot as ChipSnapshot
    from analogmed.analog.conversion import convert as convert
    from analogmed.analog.description.aihwkit_config import create_rpu_config as create_rpu_config
    from analogmed.analog.description.hardware import Hardware as Hardware
    from analogmed.analog.description.presets import PRESETS as PRESETS
    from analogmed.analog.digital_layers import Coverage as Coverage
    from analogmed.analog.digital_layers import coverage as coverage
    from analogmed.analog.digital_layers import left_digital as left_digital
    from analogmed.analog.training_noise import TrainingNoise as TrainingNoise
    from analogmed.analog.weight_clip import WeightClipper as WeightClipper

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Chip": "chip",
        "ChipSnapshot": "chip",
        "Coverage": "digital_layers",
        "Hardware": "description.hardware",
        "PRESETS": "description.presets",
        "TrainingNoise": "training_noise",
        "WeightClipper": "weight_clip",
        "calibrate": "calibration",
        "convert": "conversion",
        "coverage": "digital_layers",
        "create_rpu_config": "description.aihwkit_config",
        "from_aihwkit": "aihwkit_backend.layers",
        "ignore_unused_parameters": "aihwkit_backend.training",
        "left_digital": "digital_layers",
        "to_aihwkit": "aihwkit_backend.layers",
    },
    deprecated={"ChipReading": "ChipSnapshot"},
)
