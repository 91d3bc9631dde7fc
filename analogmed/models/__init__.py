"""Segmentation networks by name, as plain torch modules that return logits."""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.models.divisor import divisible_by as divisible_by
    from analogmed.models.divisor import window_of_task as window_of_task
    from analogmed.models.genotype import Genotype as Genotype
    from analogmed.models.genotype import Level as Level
    from analogmed.models.registry import PLUGIN_GROUP as PLUGIN_GROUP
    from analogmed.models.registry import build_model as build_model
    from analogmed.models.registry import describe_model as describe_model
    from analogmed.models.registry import follows_window as follows_window
    from analogmed.models.registry import model_names as model_names
    from analogmed.models.registry import model_options as model_options
    from analogmed.models.registry import required_divisor as required_divisor

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Genotype": "genotype",
        "Level": "genotype",
        "PLUGIN_GROUP": "registry",
        "build_model": "registry",
        "describe_model": "registry",
        "divisible_by": "divisor",
        "follows_window": "registry",
        "model_names": "registry",
        "model_options": "registry",
        "required_divisor": "registry",
        "window_of_task": "divisor",
    },
)
