"""What the analog layers compute of an aihwkit configuration; anything else is refused by name."""

from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import (
    AnalogMVType,
    BoundManagementType,
    NoiseManagementType,
    WeightClipType,
    WeightModifierType,
    WeightNoiseType,
    WeightRemapType,
)
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from aihwkit.simulator.tiles.torch_tile import TorchSimulatorTile

from analogmed.errors import ConfigError


def check_support(config: TorchInferenceRPUConfig) -> None:
    """Refuse a configuration that the analog layers would not follow to the letter.

    Raises:
        ConfigError: names every field that is not supported, with its value.
    """
    if not isinstance(config, TorchInferenceRPUConfig):
        raise ConfigError(
            "expected the TorchInferenceRPUConfig that create_rpu_config() returns, got "
            f"{type(config).__name__}"
        )
    refused = [f"{field} = {value}" for field, value in _refused(config)]
    if refused:
        raise ConfigError(
            "the analog layers do not compute: " + ", ".join(refused) + "; change these fields of "
            "the rpu_config, or convert with backend='aihwkit' where aihwkit supports them"
        )


def _refused(config: TorchInferenceRPUConfig) -> list[tuple[str, object]]:
    io, mapping, remap = config.forward, config.mapping, config.remap
    found: list[tuple[str, object]] = []

    def allow(field: str, value: object, *allowed: object) -> None:
        if value not in allowed:
            found.append((field, value))

    allow("tile_class", config.tile_class, TorchInferenceTile)
    allow("simulator_tile_class", config.simulator_tile_class, TorchSimulatorTile)
    allow("forward.mv_type", io.mv_type, AnalogMVType.ONE_PASS)
    allow("forward.bound_management", io.bound_management, BoundManagementType.NONE)
    allow(
        "forward.noise_management",
        io.noise_management,
        NoiseManagementType.NONE,
        NoiseManagementType.ABS_MAX,
    )
    allow("forward.w_noise_type", io.w_noise_type, WeightNoiseType.NONE)
    for name in _MUST_BE_ZERO:
        allow(f"forward.{name}", getattr(io, name), 0.0)
    allow(
        "modifier.type",
        config.modifier.type,
        WeightModifierType.NONE,
        WeightModifierType.COPY,
        WeightModifierType.ADD_NORMAL,
        WeightModifierType.MULT_NORMAL,
        WeightModifierType.DISCRETIZE,
    )
    for name in ("pdrop", "per_batch_sample", "enable_during_test", "copy_last_column"):
        allow(f"modifier.{name}", getattr(config.modifier, name), 0.0, False)
    allow(
        "clip.type",
        config.clip.type,
        WeightClipType.NONE,
        WeightClipType.LAYER_GAUSSIAN,
        WeightClipType.FIXED_VALUE,
    )
    columnwise = mapping.weight_scaling_columnwise
    allow("remap.type", remap.type, WeightRemapType.NONE, _REMAP_OF[bool(columnwise)])
    allow("remap.remapped_wmax", remap.remapped_wmax, 1.0)
    allow("remap.max_scale_range", remap.max_scale_range, 0.0)
    allow("remap.max_scale_ref", remap.max_scale_ref, 0.0)
    allow("mapping.digital_bias", mapping.digital_bias, True)
    allow("mapping.weight_scaling_omega", mapping.weight_scaling_omega, 1.0)
    allow("mapping.learn_out_scaling", mapping.learn_out_scaling, False)
    ranges = config.pre_post.input_range
    allow("pre_post.input_range.manage_output_clipping", ranges.manage_output_clipping, False)
    return found


_MUST_BE_ZERO = (
    "w_noise",
    "ir_drop",
    "out_noise_std",
    "out_nonlinearity",
    "slope_calibration",
    "v_offset_std",
    "r_series",
    "w_read_asymmetry_dtod",
)
_REMAP_OF = {  # by mapping.weight_scaling_columnwise: the mapping follows the weights all the time
    False: WeightRemapType.LAYERWISE_SYMMETRIC,
    True: WeightRemapType.CHANNELWISE_SYMMETRIC,
}
