"""Effects of aihwkit's tile, their fields, and the engines that compute them.

The table is an allow list. An engine computes a configuration only if it computes every effect that
is switched on in it, and a field that no effect names may only have aihwkit's default.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aihwkit.simulator.parameters.enums import AnalogMVType, BoundManagementType
from aihwkit.simulator.parameters.enums import NoiseManagementType as Management
from aihwkit.simulator.parameters.io import IOParameters

from analogmed.analog.tile.ir_drop import has_static_ir_drop, is_transient
from analogmed.analog.tile.product import has_weight_noise

Kind = Literal["torch", "reading", "vectors", "training"]
"""Kind of engine: reference, inference or training.

``torch`` is the reference. ``reading`` (static input ranges) and ``vectors`` (unfolded input
vectors) are for inference without gradients. ``training`` computes gradients.
"""

_ALL: tuple[Kind, ...] = ("torch", "reading", "vectors", "training")
_BY_VECTORS: tuple[Kind, ...] = ("torch", "vectors")
_TORCH: tuple[Kind, ...] = ("torch",)
_NONE: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Effect:
    """One effect of ``IOParameters``.

    Attributes:
        name: name for error messages.
        fields: field that error messages name, followed by the other fields that the effect depends
            on.
        is_on: whether a configuration has the effect, provided that its tiles are not perfect.
        engines: engines that compute the effect; empty for an effect that is not supported.
    """

    name: str
    fields: tuple[str, ...]
    is_on: Callable[[IOParameters], bool]
    engines: tuple[Kind, ...]


_MANAGED = (Management.ABS_MAX, Management.MAX)
_PHASES = (AnalogMVType.ONE_PASS, AnalogMVType.SPLIT_MODE, AnalogMVType.BIT_WISE)  # of pulses
_SCALED = (Management.NONE, Management.CONSTANT, *_MANAGED, Management.ABS_MAX_NP_SUM)

EFFECTS = (
    Effect("perfect tiles", ("is_perfect",), lambda io: io.is_perfect, _TORCH),
    Effect("the input converter", ("inp_res", "inp_bound"), lambda io: True, _ALL),
    Effect("the output converter", ("out_res", "out_bound", "out_scale"), lambda io: True, _ALL),
    Effect("output noise", ("out_noise",), lambda io: io.out_noise > 0, _ALL),
    Effect(
        "noise management by each input vector",
        ("noise_management", "nm_thres"),
        lambda io: io.noise_management in _MANAGED,
        _BY_VECTORS,
    ),
    Effect(
        "noise management by a constant",
        ("noise_management", "nm_thres"),
        lambda io: io.noise_management is Management.CONSTANT,
        _BY_VECTORS,
    ),
    Effect(
        "noise management by the worst sum",
        ("noise_management", "nm_thres", "max_bm_res"),
        lambda io: io.noise_management is Management.ABS_MAX_NP_SUM,
        _TORCH,
    ),
    Effect("weight noise", ("w_noise_type", "w_noise"), has_weight_noise, _BY_VECTORS),
    Effect("input noise", ("inp_noise",), lambda io: io.inp_noise > 0, _TORCH),
    Effect(
        "stochastic rounding of inputs",
        ("inp_sto_round",),
        lambda io: io.inp_sto_round and io.inp_res > 0,
        _TORCH,
    ),
    Effect(
        "stochastic rounding of outputs",
        ("out_sto_round",),
        lambda io: io.out_sto_round and io.out_res > 0,
        _TORCH,
    ),
    Effect("asymmetry of inputs", ("inp_asymmetry",), lambda io: io.inp_asymmetry != 0, _TORCH),
    Effect("asymmetry of outputs", ("out_asymmetry",), lambda io: io.out_asymmetry != 0, _TORCH),
    Effect(
        "saturation",
        ("out_nonlinearity", "slope_calibration"),
        lambda io: io.out_nonlinearity > 0,
        _TORCH,
    ),
    Effect("static IR drop", ("ir_drop", "ir_drop_g_ratio"), has_static_ir_drop, _TORCH),
    Effect(
        "inputs as pulses in time",
        (
            "mv_type",
            "split_mode_bit_shift",
            "ir_drop",
            "ir_drop_rs",
            "ir_drop_segments",
            "ir_drop_time_step_resolution_scale",
            "ir_drop_v_read",
            "ir_drop_integration_sum",
            "adc_quantization",
            "adc_frequency",
        ),
        is_transient,
        _TORCH,
    ),
    Effect(
        "several passes",
        ("mv_type",),
        lambda io: (
            io.mv_type not in (AnalogMVType.ONE_PASS, *(_PHASES if is_transient(io) else ()))
        ),
        _NONE,
    ),
    Effect(
        "bound management",
        ("bound_management", "max_bm_factor", "bm_test_negative_bound"),
        lambda io: io.bound_management is not BoundManagementType.NONE,
        _NONE,
    ),
    Effect(
        "noise management by an average",
        ("noise_management",),
        lambda io: io.noise_management not in _SCALED,
        _NONE,
    ),
    Effect(
        "spread of the output noise", ("out_noise_std",), lambda io: io.out_noise_std != 0, _NONE
    ),
    Effect(
        "spread of the saturation",
        ("out_nonlinearity_std",),
        lambda io: io.out_nonlinearity > 0 and io.out_nonlinearity_std != 0,
        _NONE,
    ),
    Effect(
        "voltage offsets",
        ("v_offset_std", "v_offset_w_min"),
        lambda io: io.v_offset_std != 0,
        _NONE,
    ),
    Effect("series resistance", ("r_series",), lambda io: io.r_series != 0, _NONE),
    Effect(
        "asymmetry of reads",
        ("w_read_asymmetry_dtod",),
        lambda io: io.w_read_asymmetry_dtod != 0,
        _NONE,
    ),
    Effect(
        "read noise that depends on the batch",
        ("apply_xdep_pcm_read_noise", "xdep_pcm_read_noise_scale"),
        lambda io: is_transient(io) and io.apply_xdep_pcm_read_noise,
        _NONE,
    ),
)


def effects_of(io: IOParameters) -> list[Effect]:
    """Return the active effects of a configuration; perfect tiles have no other supported one."""
    perfect, *others = EFFECTS
    if io.is_perfect:
        return [perfect, *(each for each in others if not each.engines and each.is_on(io))]
    return [each for each in others if each.is_on(io)]


FIELDS = frozenset(name for effect in EFFECTS for name in effect.fields)
"""The fields of ``IOParameters`` that some effect names."""


def computes(kind: Kind, io: IOParameters) -> bool:
    """Return whether an engine computes every effect of a configuration."""
    return not not_computed(kind, io)


def not_computed(kind: Kind, io: IOParameters) -> list[str]:
    """Return the effects of a configuration that an engine does not compute, for error messages."""
    return [each.name for each in effects_of(io) if kind not in each.engines]
