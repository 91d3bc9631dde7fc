"""Settings of a network."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.models.registry import follows_window, spelled_model


@checks_arguments
@dataclass(frozen=True)
class ModelConfig:
    """Network and its options.

    Attributes:
        name: network: unet, unetpp, swin_unetr, attention_unet, dynunet, subnet (a network of a
            search space, by its genotype), med_nas_bench; densenet121, efficientnet,
            light_classifier and region_of_interest for classes of whole images; s4d, s4d_ncp,
            convlstm_cfc, convlstm_ltc and spiking_convlstm_cfc for classes of signals;
            package.module:factory, or bundle:/path/to/monai/bundle.
        options: further arguments of the builder of the network, for instance features.
    """

    name: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", spelled_model(self.name))
        for name in ("in_channels", "out_channels", "spatial_dims"):
            if name in self.options:
                raise ConfigError(f"model.options.{name} follows from the task; leave it out")

    def for_window(self, window: Sequence[int]) -> "ModelConfig":
        """Return the settings with the window of a task, if the network follows it by default."""
        if "window" in self.options or not follows_window(self.name):
            return self
        return replace(self, options={**self.options, "window": list(window)})
