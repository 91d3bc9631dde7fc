"""Conversion of the hardware description to aihwkit's configuration object."""

from enum import Enum
from typing import Any, TypeGuard

from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.inference.compensation.base import BaseDriftCompensation
from aihwkit.inference.compensation.drift import (
    GlobalDriftCompensation,
    GlobalDriftCompensationWithExactReference,
    PerColumnDriftCompensation,
)
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.inference.noise.hermes import HermesNoiseModel
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    NoiseManagementType,
    WeightClipType,
    WeightModifierType,
    WeightNoiseType,
    WeightRemapType,
)
from aihwkit.simulator.parameters.inference import WeightModifierParameter

from analogmed.analog.description.device_models import device_model
from analogmed.analog.description.hardware import Hardware, hardware_from

_COMPENSATIONS: dict[str, type[BaseDriftCompensation] | None] = {
    "global": GlobalDriftCompensation,
    "global_exact": GlobalDriftCompensationWithExactReference,
    "per_column": PerColumnDriftCompensation,
    "none": None,
}
_MODIFIERS = {
    "none": WeightModifierType.NONE,
    "add_normal": WeightModifierType.ADD_NORMAL,
    "mult_normal": WeightModifierType.MULT_NORMAL,
    "discretize": WeightModifierType.DISCRETIZE,
    "discretize_add_normal": WeightModifierType.DISCRETIZE_ADD_NORMAL,
    "dorefa": WeightModifierType.DOREFA,
    "poly": WeightModifierType.POLY,
    "prog_noise": WeightModifierType.PROG_NOISE,
    "pcm_noise": WeightModifierType.PCM_NOISE,
}
_WEIGHT_NOISES = {
    "none": WeightNoiseType.NONE,
    "additive": WeightNoiseType.ADDITIVE_CONSTANT,
    "pcm_read": WeightNoiseType.PCM_READ,
}
_REMAPS = {
    "none": WeightRemapType.NONE,
    "layerwise": WeightRemapType.LAYERWISE_SYMMETRIC,
    "channelwise": WeightRemapType.CHANNELWISE_SYMMETRIC,
}
_DESCRIPTION = "analogmed_hardware"
"""Attribute of a configuration with the description that it was made from."""
_PCM_G_MAX_US = 25.0  # Nandakumar et al. 2019: noise of PCM at up to 25 uS
_PCM_COEFFS_US = (0.26348, 1.9650, -1.1731)


def create_rpu_config(preset: str = "pcm", **arguments: Any) -> TorchInferenceRPUConfig:
    """Return aihwkit's configuration of the analog hardware.

    >>> config = create_rpu_config("pcm", tile_size=256, out_noise=0.02)
    >>> config.mapping.max_input_size, config.forward.out_noise
    (256, 0.02)

    Args:
        preset: ``pcm`` (default), ``analognas``, ``analognas-as-coded``, ``hermes``, ``reram``,
            ``reram_cmo`` or ``ideal``; see ``PRESETS``.
        **arguments: any field of :class:`Hardware`, which documents units and ranges.

    Returns:
        aihwkit's ``TorchInferenceRPUConfig``, for ``convert`` or for aihwkit itself.

    Raises:
        ConfigError: unknown preset or argument, or a value outside its range.
    """
    return rpu_config_of(hardware_from({"preset": preset, **arguments}))


def rpu_config_of(hardware: Hardware) -> TorchInferenceRPUConfig:
    """Return the hardware description as aihwkit's own configuration object.

    Raises:
        ConfigError: the largest conductance does not fit the noise model.
    """
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size, config.mapping.max_output_size = hardware.tile_shape
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.row_copies = hardware.row_copies
    config.mapping.weight_scaling_columnwise = hardware.remap == "channelwise"
    config.noise_model = make_noise_model(hardware)
    _describe_converters(hardware, config)
    _describe_training(hardware, config)
    compensation = _COMPENSATIONS[hardware.drift_compensation]
    config.drift_compensation = compensation() if compensation else None
    setattr(config, _DESCRIPTION, hardware)
    return config


def is_rpu_config(value: object) -> TypeGuard[TorchInferenceRPUConfig]:
    """Return whether a value is aihwkit's configuration for its torch tile."""
    return isinstance(value, TorchInferenceRPUConfig)


def description_of(config: object) -> Hardware | None:
    """Return the description that a configuration was made from; ``None`` if it was changed."""
    hardware = getattr(config, _DESCRIPTION, None)
    if hardware is None or _plain(rpu_config_of(hardware)) != _plain(config):
        return None
    return hardware


def _plain(value: object) -> object:
    """Return a configuration as mappings, since aihwkit's noise models compare by identity."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, type | Enum) or not hasattr(value, "__dict__"):
        return value
    content = {name: _plain(item) for name, item in vars(value).items() if name != _DESCRIPTION}
    return type(value), content


def make_noise_model(hardware: Hardware) -> BaseNoiseModel:
    """Return aihwkit's noise model of the devices.

    Raises:
        ConfigError: the largest conductance does not fit the model.
    """
    return device_model(hardware.noise_model).make(hardware)


def _describe_converters(hardware: Hardware, config: TorchInferenceRPUConfig) -> None:
    io = config.forward
    io.is_perfect = hardware.perfect
    io.inp_bound, io.out_bound = hardware.inp_bound, hardware.out_bound
    io.inp_noise, io.out_noise = hardware.inp_noise, hardware.out_noise
    io.inp_res = 1 / hardware.dac_steps if hardware.dac_steps else -1.0
    io.out_res = 1 / hardware.adc_steps if hardware.adc_steps else -1.0
    io.w_noise_type = _WEIGHT_NOISES[hardware.weight_noise]
    io.w_noise = hardware.weight_noise_std if hardware.weight_noise != "none" else 0.0
    io.bound_management = BoundManagementType.NONE
    io.noise_management = NoiseManagementType[hardware.noise_management.upper()]


def _describe_training(hardware: Hardware, config: TorchInferenceRPUConfig) -> None:
    ranges = config.pre_post.input_range
    ranges.enable = hardware.input_range and not hardware.perfect
    ranges.init_from_data, ranges.init_std_alpha = 50, 3.0
    ranges.decay = hardware.input_range_decay
    ranges.input_min_percentage = hardware.input_range_keep
    _describe_modifier(hardware, config)
    config.mapping.learn_out_scaling = hardware.learned_out_scale != "none"
    config.mapping.out_scaling_columnwise = hardware.learned_out_scale == "column"
    if hardware.clip == "layer_gaussian":
        config.clip.type, config.clip.sigma = WeightClipType.LAYER_GAUSSIAN, hardware.clip_sigma
    elif hardware.clip == "fixed":
        config.clip.type = WeightClipType.FIXED_VALUE
        config.clip.fixed_value = hardware.clip_value
    config.remap.type = _REMAPS[hardware.remap]


def _describe_modifier(hardware: Hardware, config: TorchInferenceRPUConfig) -> None:
    modifier = config.modifier
    modifier.type, modifier.std_dev = _MODIFIERS[hardware.modifier], hardware.modifier_std
    modifier.pdrop = hardware.drop_connect
    if hardware.modifier == "none" and hardware.drop_connect > 0:
        modifier.type = WeightModifierType.DROP_CONNECT
    steps = hardware.dac_steps or 254
    if hardware.modifier == "discretize":
        modifier.res = 1 / steps
    elif hardware.modifier in ("discretize_add_normal", "dorefa"):
        modifier.res = 2 / steps  # relative to half the range in aihwkit
    modifier.dorefa_clip = hardware.modifier_clip
    modifier.pcm_t_inference = hardware.modifier_t_inference_s
    _describe_device_noise(hardware, config.noise_model, modifier)


def _describe_device_noise(
    hardware: Hardware, model: BaseNoiseModel, modifier: WeightModifierParameter
) -> None:
    """Set noise relative to the largest weight to that of the hardware's devices at any g_max."""
    modifier.g_max = model.g_max
    if hardware.modifier == "pcm_noise":  # its fit is fixed, and relative to this conductance
        modifier.g_max = _PCM_G_MAX_US
    if hardware.modifier not in ("poly", "prog_noise"):
        return
    if hardware.modifier_coeffs:
        modifier.coeffs = list(hardware.modifier_coeffs)
        return
    coefficients, reference_us = list(_PCM_COEFFS_US), _PCM_G_MAX_US
    if isinstance(model, PCMLikeNoiseModel | HermesNoiseModel):
        coefficients, reference_us = model.prog_coeff, model.prog_coeff_g_max_reference
    unit = reference_us if hardware.modifier == "poly" else reference_us / model.g_max
    modifier.coeffs = [coefficient / unit for coefficient in coefficients]
