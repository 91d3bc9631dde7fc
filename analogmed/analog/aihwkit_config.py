"""From the hardware description to aihwkit's own configuration object."""

from typing import TYPE_CHECKING

from aihwkit.inference import (
    PCMLikeNoiseModel,
    ReRamCMONoiseModel,
    ReRamWan2022NoiseModel,
    StateIndependentNoiseModel,
)
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

from analogmed.foundation.errors import ConfigError

if TYPE_CHECKING:
    from analogmed.analog.rpu import Hardware

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
MODIFIERS_OF_DEVICES = ("poly", "prog_noise", "pcm_noise")
"""Modifiers with the noise of devices, of which ``std_dev`` is a factor."""
_PCM_G_MAX_US = 25.0  # Nandakumar et al. 2019: noise of PCM at up to 25 uS
_PCM_COEFFS_US = (0.26348, 1.9650, -1.1731)
_WAN_G_MAX_US = 40.0  # Wan et al. 2022: aihwkit's fit in uS is for this largest conductance
_PRESET_OF = {
    "pcm": "pcm",
    "hermes": "hermes",
    "reram_wan2022": "reram",
    "reram_cmo": "reram_cmo",
    "state_independent": "pcm",
}


def rpu_config_of(hardware: "Hardware") -> TorchInferenceRPUConfig:
    """The same description as aihwkit has it.

    Raises:
        ConfigError: the largest conductance does not fit the noise model.
    """
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size, config.mapping.max_output_size = hardware.tile_shape
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = hardware.remap == "channelwise"
    config.noise_model = noise_model_of(hardware)
    _describe_converters(hardware, config)
    _describe_training(hardware, config)
    compensation = _COMPENSATIONS[hardware.drift_compensation]
    config.drift_compensation = compensation() if compensation else None
    return config


def noise_model_of(hardware: "Hardware") -> BaseNoiseModel:
    """aihwkit's noise model.

    Raises:
        ConfigError: the largest conductance does not fit the model.
    """
    try:
        return _make_noise_model(hardware)
    except (AssertionError, ValueError) as error:
        raise ConfigError(
            f"hardware.g_max_us: {hardware.g_max_us} uS does not fit the noise model "
            f"'{hardware.noise_model}': {error}; start from preset "
            f"'{_PRESET_OF[hardware.noise_model]}'"
        ) from error


def _make_noise_model(hardware: "Hardware") -> BaseNoiseModel:
    if hardware.noise_model == "reram_wan2022":
        if hardware.g_max_us not in (None, _WAN_G_MAX_US):
            raise ValueError(
                f"its fit is for {_WAN_G_MAX_US:g} uS, and aihwkit does not rescale its noise"
            )
        return ReRamWan2022NoiseModel(g_max=_WAN_G_MAX_US, noise_scale=hardware.prog_noise_scale)
    scales = {
        "g_max": hardware.g_max_us,
        "prog_noise_scale": hardware.prog_noise_scale,
        "read_noise_scale": hardware.read_noise_scale,
        "drift_scale": hardware.drift_scale,
    }
    if hardware.noise_model == "reram_cmo":
        return ReRamCMONoiseModel(**scales, acceptance_range=hardware.acceptance_range_percent)
    model: type[BaseNoiseModel] = {
        "pcm": PCMLikeNoiseModel,
        "hermes": HermesNoiseModel,
        "state_independent": StateIndependentNoiseModel,
    }[hardware.noise_model]
    return model(**scales)


def _describe_converters(hardware: "Hardware", config: TorchInferenceRPUConfig) -> None:
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


def _describe_training(hardware: "Hardware", config: TorchInferenceRPUConfig) -> None:
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


def _describe_modifier(hardware: "Hardware", config: TorchInferenceRPUConfig) -> None:
    modifier = config.modifier
    modifier.type, modifier.std_dev = _MODIFIERS[hardware.modifier], hardware.modifier_std
    modifier.pdrop = hardware.drop_connect
    if hardware.modifier == "none" and hardware.drop_connect > 0:
        modifier.type = WeightModifierType.DROP_CONNECT
    steps = hardware.dac_steps or 254
    if hardware.modifier == "discretize":
        modifier.res = 1 / steps
    elif hardware.modifier in ("discretize_add_normal", "dorefa"):
        modifier.res = 2 / steps  # aihwkit: of half the range
    modifier.dorefa_clip = hardware.modifier_clip
    modifier.pcm_t_inference = hardware.modifier_t_inference_s
    _describe_device_noise(hardware, config.noise_model, modifier)


def _describe_device_noise(
    hardware: "Hardware", model: BaseNoiseModel, modifier: WeightModifierParameter
) -> None:
    """Noise relative to the largest weight as the hardware's devices have it at any ``g_max``."""
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
