"""Hardware in every form in which a user gives it: one function for settings, one for aihwkit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analogmed.analog.description.hardware import Hardware, hardware_from
from analogmed.foundation.errors import ConfigError

if TYPE_CHECKING:
    from aihwkit.simulator.configs import TorchInferenceRPUConfig

EXPECTED = (
    "the name of a preset such as 'pcm', a mapping such as {'preset': 'pcm', 'tile_size': 256}, a "
    "Hardware, or the result of create_rpu_config()"
)


def as_hardware(hardware: object) -> Hardware:
    """Return the hardware description of a preset's name, a mapping, or aihwkit's configuration.

    Args:
        hardware: name of a preset; mapping of arguments of :class:`Hardware`; ``Hardware``; or an
            unchanged result of ``create_rpu_config``.

    Raises:
        ConfigError: the preset or an argument is unknown, or the object is of another kind.
    """
    if isinstance(hardware, Hardware):
        return hardware
    if isinstance(hardware, str):
        return Hardware(hardware)
    if isinstance(hardware, Mapping):
        return hardware_from(hardware)
    _refuse_other_kinds(hardware)
    from analogmed.analog.description.aihwkit_config import description_of  # aihwkit is loaded

    described = description_of(hardware)
    if described is None:
        raise ConfigError(
            "hardware: the configuration of aihwkit was changed after create_rpu_config(), or made "
            f"without it, so that no settings file can describe it; expected {EXPECTED}. Give the "
            "changes as arguments of create_rpu_config(), or use convert() and robustness()."
        )
    return described


def as_rpu_config(hardware: object) -> "TorchInferenceRPUConfig":
    """Return aihwkit's configuration of any form that ``as_hardware`` takes; others as they are.

    Raises:
        ConfigError: the preset or an argument is unknown, or the object is of another kind.
    """
    from analogmed.analog.description.aihwkit_config import is_rpu_config, rpu_config_of

    if is_rpu_config(hardware):
        return hardware
    return rpu_config_of(as_hardware(hardware))


def _refuse_other_kinds(hardware: object) -> None:
    if isinstance(hardware, type):
        raise ConfigError(
            f"hardware: expected {EXPECTED}, got the class {hardware.__name__}. Pass an instance: "
            f"{hardware.__name__}()."
        )
    kinds = {kind.__name__ for kind in type(hardware).__mro__}
    if "TorchInferenceRPUConfig" not in kinds:
        raise ConfigError(f"hardware: expected {EXPECTED}, got {type(hardware).__name__}")
