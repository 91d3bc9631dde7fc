"""Supported fields of an aihwkit configuration; all other fields raise an error by name."""

import dataclasses
import math
import operator
from typing import Any

from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import (
    AnalogMVType,
    RPUDataType,
    WeightClipType,
    WeightModifierType,
    WeightRemapType,
)
from aihwkit.simulator.parameters.inference import WeightModifierParameter
from aihwkit.simulator.parameters.io import IOParametersIRDropT
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from aihwkit.simulator.tiles.torch_tile import TorchSimulatorTile
from aihwkit.simulator.tiles.torch_tile_irdrop_t import TorchSimulatorTileIRDropT

from analogmed.analog.description.effects import FIELDS, effects_of
from analogmed.analog.tile.copies import most_copies
from analogmed.foundation.errors import ConfigError


def check_support(config: TorchInferenceRPUConfig) -> None:
    """Raise an error for a configuration that the analog layers do not implement exactly.

    Raises:
        ConfigError: names every field that is not supported, with its value.
    """
    refused = [f"{field} = {value}" for field, value in _refused(config)]
    if refused:
        raise ConfigError(
            "the analog layers do not compute: " + ", ".join(refused) + "; change these fields of "
            "the rpu_config; convert with backend='aihwkit' where aihwkit's torch tile supports "
            "them; its compiled tile, by aihwkit's InferenceRPUConfig, has some of the others"
        )


def _refused(config: TorchInferenceRPUConfig) -> list[tuple[str, object]]:
    io, mapping, remap = config.forward, config.mapping, config.remap
    found: list[tuple[str, object]] = []

    def allow(field: str, value: object, *allowed: object) -> None:
        if value not in allowed:
            found.append((field, value))

    allow("tile_class", config.tile_class, TorchInferenceTile)
    allow("runtime.data_type", config.runtime.data_type, RPUDataType.FLOAT)
    transient = isinstance(io, IOParametersIRDropT)
    simulator = TorchSimulatorTileIRDropT if transient else TorchSimulatorTile
    allow("simulator_tile_class", config.simulator_tile_class, simulator)
    found += [
        (f"forward.{effect.fields[0]}", getattr(io, effect.fields[0]))
        for effect in effects_of(io)
        if not effect.engines
    ]
    found += _unknown(config)
    if transient:
        found += _refused_of_pulses(config)
    found += _refused_of_modifier(config.modifier)
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
    if (copies := most_copies(config)) > 1 and io.ir_drop > 0:
        found.append(("mapping.row_copies", f"{copies} (with IR drop)"))
    ranges = config.pre_post.input_range
    allow("pre_post.input_range.manage_output_clipping", ranges.manage_output_clipping, False)
    return found


def _unknown(config: TorchInferenceRPUConfig) -> list[tuple[str, object]]:
    """Return the fields that are not in ``_KNOWN`` and do not have aihwkit's default."""
    found: list[tuple[str, object]] = []
    for path, known in _KNOWN.items():
        section: Any = operator.attrgetter(path)(config)
        defaults = type(section)()
        for field in dataclasses.fields(section):
            value = getattr(section, field.name)
            if field.name not in known and value != getattr(defaults, field.name):
                found.append((f"{path}.{field.name}", value))
    return found


def _refused_of_pulses(config: TorchInferenceRPUConfig) -> list[tuple[str, object]]:
    """Return unsupported fields for pulsed inputs, including those that fail in aihwkit."""
    io, rows = config.forward, config.mapping.max_input_size
    assert isinstance(io, IOParametersIRDropT)
    found: list[tuple[str, object]] = []
    if io.inp_res <= 0 and not io.is_perfect:
        found.append(("forward.inp_res", f"{io.inp_res} (pulses have a number of steps)"))
    if rows <= 0 or rows % io.ir_drop_segments:
        segments = f"{io.ir_drop_segments} (does not divide mapping.max_input_size = {rows})"
        found.append(("forward.ir_drop_segments", segments))
    if io.w_noise > 0 or io.out_nonlinearity > 0:
        found.append(("forward.w_noise, out_nonlinearity", (io.w_noise, io.out_nonlinearity)))
    if io.mv_type is AnalogMVType.SPLIT_MODE and io.inp_res > 0:
        steps = io.inp_res if io.inp_res > 1 else 1 / io.inp_res
        bits = math.log2(round(steps) + 2)
        if bits % 1 or abs(steps - round(steps)) > 1e-6 or io.split_mode_bit_shift >= bits:
            split = f"{io.inp_res} (SPLIT_MODE needs 2^bits - 2 steps, with bits above its shift)"
            found.append(("forward.inp_res", split))
    return found


def _refused_of_modifier(modifier: WeightModifierParameter) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in ("per_batch_sample", "enable_during_test", "copy_last_column"):
        if getattr(modifier, name):
            found.append((f"modifier.{name}", True))
    if modifier.pdrop > 0 and modifier.type is WeightModifierType.NONE:
        ignored = f"{modifier.pdrop} (aihwkit ignores it with modifier.type NONE: DROP_CONNECT)"
        found.append(("modifier.pdrop", ignored))
    if modifier.res > 1 and modifier.type in _STEP_IS_RES:
        found.append(
            ("modifier.res", f"{modifier.res} (with this modifier.type the step, up to 1)")
        )
    return found


_STEP_IS_RES = (WeightModifierType.DOREFA, WeightModifierType.DISCRETIZE_ADD_NORMAL)
_KNOWN = {  # fields that the analog layers support, or that are checked above
    "mapping": {
        "digital_bias",
        "weight_scaling_omega",
        "weight_scaling_columnwise",
        "weight_scaling_lr_compensation",
        "learn_out_scaling",
        "out_scaling_columnwise",
        "max_input_size",
        "max_output_size",
    },
    "remap": {"remapped_wmax", "max_scale_range", "max_scale_ref", "type"},
    "clip": {"fixed_value", "sigma", "type"},
    "modifier": {
        "std_dev",
        "per_batch_sample",
        "res",
        "sto_round",
        "dorefa_clip",
        "pdrop",
        "enable_during_test",
        "rel_to_actual_wmax",
        "assumed_wmax",
        "copy_last_column",
        "coeffs",
        "type",
        "g_max",
        "pcm_zero_thres",
        "pcm_t_inference",
        "pcm_prob_at_reset",
        "pcm_prob_at_gmax",
        "pcm_prob_at_random",
        "pcm_t0",
    },
    "pre_post.input_range": {
        "enable",
        "learn_input_range",
        "init_value",
        "init_from_data",
        "init_std_alpha",
        "decay",
        "input_min_percentage",
        "manage_output_clipping",
        "output_min_percentage",
        "gradient_scale",
        "gradient_relative",
        "calibration_info",
    },
    "forward": FIELDS,
}
_REMAP_OF = {  # by mapping.weight_scaling_columnwise; the mapping always follows the weights
    False: WeightRemapType.LAYERWISE_SYMMETRIC,
    True: WeightRemapType.CHANNELWISE_SYMMETRIC,
}
