"""Valid range of each argument of the hardware description."""

import dataclasses
from typing import Any, Literal, get_args, get_origin

from analogmed.analog.description.device_models import device_model
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import (
    is_finite,
    require_choice,
    require_number,
    require_whole,
)

_POSITIVE = (
    "inp_bound",
    "out_bound",
    "clip_sigma",
    "clip_value",
    "input_range_keep",
    "modifier_clip",
)
_NON_NEGATIVE = (
    "dac_steps",
    "adc_steps",
    "inp_noise",
    "out_noise",
    "weight_noise_std",
    "modifier_std",
    "modifier_t_inference_s",
    "input_range_decay",
    "prog_noise_scale",
    "read_noise_scale",
    "drift_scale",
)
_WHOLE = ("dac_steps", "adc_steps")
ACCEPTANCE_RANGES_PERCENT = (0.2, 2.0)
"""Acceptance ranges of programming, in % of the target, for which aihwkit's CMO model is fitted."""


def check_ranges(hardware: Any) -> None:
    """Raise an error for arguments that are out of range.

    Args:
        hardware: the hardware description.

    Raises:
        ConfigError: names the first invalid argument, its value, and the expected range.
    """
    for name in _POSITIVE:
        require_number(f"hardware.{name}", getattr(hardware, name), above=0)
    require_whole("hardware.row_copies", hardware.row_copies, least=1)
    for name in _NON_NEGATIVE:
        require_number(f"hardware.{name}", getattr(hardware, name), at_least=0)
    for name in _WHOLE:
        value = getattr(hardware, name)
        if int(value) != value:
            raise ConfigError(f"hardware.{name}: expected a whole number, got {value!r}")
    require_number("hardware.input_range_keep", hardware.input_range_keep, at_least=0, at_most=1)
    require_number("hardware.drop_connect", hardware.drop_connect, at_least=0, below=1)
    _require_coefficients(hardware.modifier_coeffs)
    if hardware.g_max_us is not None:
        require_number("hardware.g_max_us", hardware.g_max_us, above=0)
    _require_tile(hardware.tile_size)
    for field in dataclasses.fields(hardware):
        if get_origin(field.type) is Literal:
            value = getattr(hardware, field.name)
            require_choice(f"hardware.{field.name}", value, get_args(field.type))
        elif field.type is bool:
            _require_switch(field.name, getattr(hardware, field.name))
    _require_one_scale(hardware)
    _require_acceptance_range(hardware)


def _require_coefficients(values: object) -> None:
    if values is None:
        return
    if not isinstance(values, tuple | list) or not values or not all(map(is_finite, values)):
        raise ConfigError(
            f"hardware.modifier_coeffs: expected one finite number or more, got {values!r}"
        )


def _require_one_scale(hardware: Any) -> None:
    """Check that a model with a single scale (such as aihwkit's ReRAM) has no other scale set."""
    if not device_model(hardware.noise_model).has_one_scale:
        return
    for name in ("read_noise_scale", "drift_scale"):
        value = getattr(hardware, name)
        if value not in (1.0, hardware.prog_noise_scale):
            raise ConfigError(
                f"hardware.{name}: the noise model '{hardware.noise_model}' has one scale for all "
                f"its noise, prog_noise_scale ({hardware.prog_noise_scale:g}); {value!r} has no "
                "effect"
            )


def _require_acceptance_range(hardware: Any) -> None:
    """Check the acceptance range; aihwkit's CMO model uses its finer fit for any other value."""
    value = hardware.acceptance_range_percent
    if value not in ACCEPTANCE_RANGES_PERCENT or isinstance(value, bool):
        raise ConfigError(
            f"hardware.acceptance_range_percent: expected 0.2 or 2, the fits of 'reram_cmo', got "
            f"{value!r}"
        )
    if hardware.noise_model != "reram_cmo" and value != ACCEPTANCE_RANGES_PERCENT[0]:
        raise ConfigError(
            f"hardware.acceptance_range_percent: the noise model '{hardware.noise_model}' has no "
            f"acceptance range; expected 0.2, got {value!r}. Leave it out, or choose preset "
            "'reram_cmo'"
        )


def _require_tile(size: object) -> None:
    sides = list(size) if isinstance(size, tuple | list) else [size, size]
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sides)
    if len(sides) != 2 or not whole:
        raise ConfigError(
            "hardware.tile_size: expected a whole number of at least 1, or (rows, columns), got "
            f"{size!r}"
        )


def _require_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"hardware.{name}: expected true or false, got {value!r}")
