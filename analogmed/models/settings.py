"""Settings of a network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.strict_yaml import parse_yaml
from analogmed.models.registry import follows_window, spelled_model


@checks_arguments
@dataclass(frozen=True)
class ModelConfig:
    """Network and its options.

    Attributes:
        name: network, as NAME or "NAME(option=value, ...)"; NAME is unet, unetpp, swin_unetr,
            attention_unet, dynunet, subnet (a network of a search space, by its genotype),
            med_nas_bench; densenet121, efficientnet, light_classifier and region_of_interest for
            classes of whole images; s4d, s4d_ncp, convlstm_cfc, convlstm_ltc and
            spiking_convlstm_cfc for classes of signals; package.module:factory, or
            bundle:/path/to/monai/bundle.
        options: further arguments of the builder of the network, for instance features.
    """

    name: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "(" in self.name:
            name, options = network_and_options(self.name, "model")
            if self.options:
                raise ConfigError(
                    f"model: expected the options of the network once, got {self.name} and "
                    "model.options. Write all of them into one of the two."
                )
            object.__setattr__(self, "name", name)
            object.__setattr__(self, "options", options)
        object.__setattr__(self, "name", spelled_model(self.name))
        for name in ("in_channels", "out_channels", "spatial_dims"):
            if name in self.options:
                raise ConfigError(f"model.options.{name} follows from the task; leave it out")

    def for_window(self, window: Sequence[int]) -> "ModelConfig":
        """Return the settings with the window of a task, if the network follows it by default."""
        if "window" in self.options or not follows_window(self.name):
            return self
        return replace(self, options={**self.options, "window": list(window)})


def network_and_options(text: str, where: str) -> tuple[str, dict[str, Any]]:
    """Return name and options of ``name`` or ``name(option=value, ...)`` with YAML values.

    Args:
        text: the specification.
        where: name of the setting, for messages.

    Raises:
        ConfigError: the text has another form.
    """
    found = _NETWORK.fullmatch(text)
    options: Any = None
    if found:
        try:
            pairs = re.sub(r"(\w+)\s*=", r"\1: ", found.group(2) or "")
            options = parse_yaml(f"{{{pairs}}}", where)
        except ConfigError:
            options = None
    if found is None or not isinstance(options, dict) or not all(map(_is_name, options)):
        raise ConfigError(
            f"{where}: expected name or name(option=value, ...), for instance unet(features=8), "
            f"found '{text}'"
        )
    return found.group(1), options


_NETWORK = re.compile(r"\s*([^()\s]+(?:[ \t]+[^()\s=]+)*)\s*(?:\((.*)\))?\s*")


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isidentifier()
