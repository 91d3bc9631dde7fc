"""Ablations of a network on a chip, by layer and by noise source.

All settings of one hardware share their chips. A layer has the same devices whether it is the only
analog one or the whole network is analog, so that differences are paired.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

from analogmed.analog import Hardware
from analogmed.analog.description.device_models import device_model
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest

SOURCES = {
    "programming": "prog_noise_scale",
    "read": "read_noise_scale",
    "drift": "drift_scale",
    "DAC": "dac_steps",
    "ADC": "adc_steps",
    "output": "out_noise",
    "input": "inp_noise",
    "weight": "weight_noise_std",
}
"""Noise sources, each with the argument of ``create_rpu_config`` that disables it if 0."""


@dataclass(frozen=True)
class AblationSetting:
    """One configuration of the network on a chip.

    Attributes:
        name: ``all_analog``; ``only_analog`` and ``only_digital`` for one layer; ``noise_alone``
            and ``noise_all_but`` for one noise source; ``no_noise``; ``placement``.
        subject: layer or noise source; empty if there is none.
        hardware: hardware of the chip.
        digital: layers computed digitally.
    """

    name: str
    subject: str
    hardware: Hardware
    digital: frozenset[str] = frozenset()


def list_ablations(config: SensitivityConfig, layers: Iterable[str]) -> list[AblationSetting]:
    """Return all settings of the network.

    Args:
        config: layers and noise sources to evaluate.
        layers: layers of the network on tiles.

    Raises:
        ConfigError: a pattern matches no layer on tiles, or the hardware has no noise source.
    """
    layers = tuple(layers)
    settings = [AblationSetting("all_analog", "", config.hardware)]
    if "layers" in config.parts:
        for name in chosen_layers(config, layers):
            others = frozenset(layers) - {name}
            settings.append(AblationSetting("only_analog", name, config.hardware, others))
            if others:
                settings.append(
                    AblationSetting("only_digital", name, config.hardware, frozenset({name}))
                )
    if "sources" in config.parts:
        present = sources_of(config.hardware)
        settings.append(AblationSetting("no_noise", "", _quiet(config.hardware, present)))
        for source in present:
            others_off = _quiet(config.hardware, [name for name in present if name != source])
            settings.append(AblationSetting("noise_alone", source, others_off))
            settings.append(
                AblationSetting("noise_all_but", source, _quiet(config.hardware, [source]))
            )
    return settings


def chosen_layers(config: SensitivityConfig, layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the layers on tiles that ``config.layers`` selects; all of them by default."""
    for pattern in config.layers:
        if not any(fnmatch(name, pattern) for name in layers):
            raise ConfigError(
                f"layers: no layer on tiles is called '{pattern}'; {nearest(pattern, layers)}"
            )
    wanted = config.layers or ("*",)
    return tuple(name for name in layers if any(fnmatch(name, pattern) for pattern in wanted))


def sources_of(hardware: Hardware) -> list[str]:
    """Return the noise sources of a chip.

    Raises:
        ConfigError: the chip has no noise source.
    """
    absent: set[str] = set()
    if hardware.perfect:
        absent |= {"DAC", "ADC", "output", "input", "weight"}
    if device_model(hardware.noise_model).has_one_scale:
        absent |= {"read", "drift"}
    if hardware.weight_noise == "none":
        absent |= {"weight"}
    found = [
        name
        for name, argument in SOURCES.items()
        if name not in absent and getattr(hardware, argument) > 0
    ]
    if not found:
        raise ConfigError(
            f"hardware '{hardware.preset}' has none of the noise sources {', '.join(SOURCES)}; "
            "leave sources out of parts, or take another chip"
        )
    return found


def _quiet(hardware: Hardware, sources: Iterable[str]) -> Hardware:
    without: dict[str, Any] = {SOURCES[source]: 0 for source in sources}
    return replace(hardware, **without)
