"""Segmentation networks by name, as plain torch modules that give logits."""

from analogmed.models.divisor import divisible_by
from analogmed.models.genotype import Genotype, Level
from analogmed.models.registry import (
    PLUGIN_GROUP,
    build_model,
    describe_model,
    model_names,
    model_options,
    required_divisor,
)

__all__ = [
    "Genotype",
    "Level",
    "PLUGIN_GROUP",
    "build_model",
    "describe_model",
    "divisible_by",
    "model_names",
    "model_options",
    "required_divisor",
]
