"""The hardware description: named presets and arguments in, a genuine aihwkit configuration out."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

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

from analogmed.errors import ConfigError
from analogmed.suggest import nearest

NoiseModelName = Literal["pcm", "hermes", "reram_wan2022", "reram_cmo", "state_independent"]
ModifierName = Literal[
    "none",
    "add_normal",
    "mult_normal",
    "discretize",
    "discretize_add_normal",
    "dorefa",
    "poly",
    "prog_noise",
    "pcm_noise",
]
CompensationName = Literal["global", "global_exact", "per_column", "none"]

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


_OF_PRESET: Any = None

_PCM: dict[str, Any] = {
    "perfect": False,
    "tile_size": 512,
    "dac_steps": 254,
    "adc_steps": 254,
    "inp_bound": 1.0,
    "out_bound": 10.0,
    "inp_noise": 0.0,
    "out_noise": 0.04,
    "weight_noise": "none",
    "weight_noise_std": 0.0,
    "noise_management": "none",
    "input_range": True,
    "input_range_decay": 0.01,
    "input_range_keep": 0.995,
    "modifier": "add_normal",
    "modifier_std": 0.06,
    "modifier_coeffs": None,
    "modifier_clip": 0.6,
    "modifier_t_inference_s": 0.0,
    "drop_connect": 0.0,
    "learned_out_scale": "none",
    "clip": "layer_gaussian",
    "clip_sigma": 2.0,
    "clip_value": 1.0,
    "remap": "layerwise",
    "noise_model": "pcm",
    "g_max_us": 25.0,
    "prog_noise_scale": 1.0,
    "read_noise_scale": 1.0,
    "drift_scale": 1.0,
    "drift_compensation": "global",
}

_ANALOGNAS: dict[str, Any] = _PCM | {
    "tile_size": (256, 255),
    "dac_steps": 256,
    "adc_steps": 256,
    "noise_management": "abs_max",
    "input_range": False,
    "out_noise": 0.1,
    "out_bound": 20.0,
    "modifier_std": 0.05,
    "clip": "fixed",
    "remap": "none",
}

PRESETS: dict[str, dict[str, Any]] = {
    "pcm": _PCM,
    "analognas": _ANALOGNAS,
    "analognas-as-coded": _ANALOGNAS | {"modifier": "none"},
    "hermes": _PCM | {"tile_size": 256, "noise_model": "hermes", "g_max_us": None},
    "reram": _PCM
    | {"noise_model": "reram_wan2022", "g_max_us": 40.0, "drift_compensation": "none"},
    "reram_cmo": _PCM
    | {"noise_model": "reram_cmo", "g_max_us": None, "drift_compensation": "none"},
    "ideal": _PCM
    | {
        "perfect": True,
        "dac_steps": 0,
        "adc_steps": 0,
        "out_noise": 0.0,
        "input_range": False,
        "modifier": "none",
        "clip": "none",
        "prog_noise_scale": 0.0,
        "read_noise_scale": 0.0,
        "drift_scale": 0.0,
        "drift_compensation": "none",
    },
}
"""All arguments of each preset.

``pcm`` is the evaluation set-up of analog-NAS-bench; ``analognas`` is AnalogNAS's
``create_rpu_config(g_max=25, tile_size=256, dac_res=256, adc_res=256, noise_std=5.0)`` with its
noise_std read as per cent of the largest weight. AnalogNAS never sets the modifier's type, so that
noise_std does nothing there: ``analognas-as-coded``. ``hermes`` is the 64-core PCM chip (Le Gallo
et al. 2023); ``reram`` is the chip of Wan et al. 2022, known at 1 s, 1 day and 2 days only;
``reram_cmo`` the CMO/HfOx devices of aihwkit, at any time; ``ideal`` computes as digital does.
"""


@dataclass(frozen=True)
class Hardware:
    """The arguments of :func:`create_rpu_config`; what is left out is taken from the preset.

    Attributes:
        preset: pcm, analognas, analognas-as-coded, hermes, reram, reram_cmo or ideal.
        perfect: switch converters, bounds, and noise of inputs, products and outputs off.
        tile_size: rows and columns of one crossbar tile; an int means a square. 1 or more.
        dac_steps: steps of the input converter; 254 is 8 bits, 0 switches it off.
        adc_steps: steps of the output converter; 254 is 8 bits, 0 switches it off.
        inp_bound: largest input to the tile, in units of the input range. Above 0.
        out_bound: largest output of the tile, in units of (full input x full weight). Above 0.
        inp_noise: standard deviation of the input noise, in units of the input range. 0 or more.
        out_noise: standard deviation of the output noise, in units of the output. 0 or more.
        weight_noise: noise of the weights that is new in each product: the same for all weights
            (``additive``), or growing with the root of the weight (``pcm_read``).
        weight_noise_std: its standard deviation, relative to the largest weight, for a weight of
            that size. 0 or more.
        noise_management: how an input vector is scaled before the converter: by a static range
            (``none``) or by its own largest absolute value (``abs_max``).
        input_range: static input ranges, learned in training; set by ``calibrate``.
        input_range_decay: decay of a learned range. 0 or more.
        input_range_keep: a learned range shrinks while more than this share of inputs fits.
            In (0, 1].
        modifier: disturbance of the weights in hardware-aware training: Gaussian noise, added or
            multiplied; rounding to the DAC's number of steps (254 without DAC), also with noise
            added or by DoReFa; noise whose size is a polynomial of the weight (``poly``), which
            keeps the sign (``prog_noise``); or PCM devices, programmed and aged (``pcm_noise``).
        modifier_std: its standard deviation, relative to the largest weight of the tile; with
            ``poly``, ``prog_noise`` and ``pcm_noise`` a factor on the noise. 0 or more.
        modifier_coeffs: coefficients of |weight / largest| ** 0, 1, ...: of ``poly`` in units of
            the largest weight, of ``prog_noise`` in uS; ``None`` is the fit to PCM devices.
        modifier_clip: largest weight after ``dorefa``, in units of the mapped weight. Above 0.
        modifier_t_inference_s: age of the devices of ``pcm_noise`` in s. 0 or more.
        drop_connect: share of the weights that training sets to zero in each step, whatever the
            modifier. 0 or more, below 1.
        learned_out_scale: digital factor on the outputs of each tile, or of each of its columns,
            learned in training.
        clip: weight clipping after each training step.
        clip_sigma: clip at so many standard deviations (``layer_gaussian``). Above 0.
        clip_value: clip at this value, in units of the largest weight (``fixed``). Above 0.
        remap: how weights are mapped to conductances: one scale a tile, or one a column. The scales
            always follow the weights; ``none`` maps as ``layerwise``, and makes ``fixed`` clipping
            refer to the weights before training.
        noise_model: aihwkit's statistical model of programming, drift and read noise.
        g_max_us: largest conductance in uS; ``None`` is the noise model's own. Above 0.
        prog_noise_scale: factor on the programming noise. 0 or more.
        read_noise_scale: factor on the read noise. 0 or more.
        drift_scale: factor on the drift exponents. 0 or more.
        drift_compensation: factor that undoes the mean drift, measured on the tile.
    """

    preset: str = "pcm"
    perfect: bool = _OF_PRESET
    tile_size: int | tuple[int, int] = _OF_PRESET
    dac_steps: int = _OF_PRESET
    adc_steps: int = _OF_PRESET
    inp_bound: float = _OF_PRESET
    out_bound: float = _OF_PRESET
    inp_noise: float = _OF_PRESET
    out_noise: float = _OF_PRESET
    weight_noise: Literal["none", "additive", "pcm_read"] = _OF_PRESET
    weight_noise_std: float = _OF_PRESET
    noise_management: Literal["none", "abs_max"] = _OF_PRESET
    input_range: bool = _OF_PRESET
    input_range_decay: float = _OF_PRESET
    input_range_keep: float = _OF_PRESET
    modifier: ModifierName = _OF_PRESET
    modifier_std: float = _OF_PRESET
    modifier_coeffs: tuple[float, ...] | None = _OF_PRESET
    modifier_clip: float = _OF_PRESET
    modifier_t_inference_s: float = _OF_PRESET
    drop_connect: float = _OF_PRESET
    learned_out_scale: Literal["none", "tile", "column"] = _OF_PRESET
    clip: Literal["none", "layer_gaussian", "fixed"] = _OF_PRESET
    clip_sigma: float = _OF_PRESET
    clip_value: float = _OF_PRESET
    remap: Literal["none", "layerwise", "channelwise"] = _OF_PRESET
    noise_model: NoiseModelName = _OF_PRESET
    g_max_us: float | None = _OF_PRESET
    prog_noise_scale: float = _OF_PRESET
    read_noise_scale: float = _OF_PRESET
    drift_scale: float = _OF_PRESET
    drift_compensation: CompensationName = _OF_PRESET

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(
                f"unknown hardware preset '{self.preset}'; {nearest(self.preset, PRESETS)}"
            )
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in _POSITIVE:
            _require(name, getattr(self, name), low=0.0, open_low=True)
        for name in _NON_NEGATIVE:
            _require(name, getattr(self, name), low=0.0)
        for name in ("dac_steps", "adc_steps"):
            if int(getattr(self, name)) != getattr(self, name):
                raise ConfigError(
                    f"hardware.{name}: expected a whole number, got {getattr(self, name)!r}"
                )
        _require("input_range_keep", self.input_range_keep, low=0.0, high=1.0)
        _require("drop_connect", self.drop_connect, low=0.0, high=1.0, open_high=True)
        _require_coefficients(self.modifier_coeffs)
        if self.g_max_us is not None:
            _require("g_max_us", self.g_max_us, low=0.0, open_low=True)
        _require_tile(self.tile_size)
        for name, choices in _CHOICES.items():
            _require_choice(name, getattr(self, name), choices)
        self._noise_model()

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        size = self.tile_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def rpu_config(self) -> TorchInferenceRPUConfig:
        """The same description as aihwkit's own configuration object."""
        config = TorchInferenceRPUConfig()
        config.mapping.max_input_size, config.mapping.max_output_size = self.tile_shape
        config.mapping.weight_scaling_omega = 1.0
        config.mapping.weight_scaling_columnwise = self.remap == "channelwise"
        self._describe_converters(config)
        self._describe_training(config)
        config.noise_model = self._noise_model()
        compensation = _COMPENSATIONS[self.drift_compensation]
        config.drift_compensation = compensation() if compensation else None
        return config

    def _describe_converters(self, config: TorchInferenceRPUConfig) -> None:
        io = config.forward
        io.is_perfect = self.perfect
        io.inp_bound, io.out_bound = self.inp_bound, self.out_bound
        io.inp_noise, io.out_noise = self.inp_noise, self.out_noise
        io.inp_res = 1 / self.dac_steps if self.dac_steps else -1.0
        io.out_res = 1 / self.adc_steps if self.adc_steps else -1.0
        io.w_noise_type = _WEIGHT_NOISES[self.weight_noise]
        io.w_noise = self.weight_noise_std if self.weight_noise != "none" else 0.0
        io.bound_management = BoundManagementType.NONE
        io.noise_management = NoiseManagementType[self.noise_management.upper()]

    def _describe_training(self, config: TorchInferenceRPUConfig) -> None:
        ranges = config.pre_post.input_range
        ranges.enable = self.input_range
        ranges.init_from_data, ranges.init_std_alpha = 50, 3.0
        ranges.decay, ranges.input_min_percentage = self.input_range_decay, self.input_range_keep
        self._describe_modifier(config.modifier)
        config.mapping.learn_out_scaling = self.learned_out_scale != "none"
        config.mapping.out_scaling_columnwise = self.learned_out_scale == "column"
        if self.clip == "layer_gaussian":
            config.clip.type, config.clip.sigma = WeightClipType.LAYER_GAUSSIAN, self.clip_sigma
        elif self.clip == "fixed":
            config.clip.type = WeightClipType.FIXED_VALUE
            config.clip.fixed_value = self.clip_value
        config.remap.type = _REMAPS[self.remap]

    def _describe_modifier(self, modifier: WeightModifierParameter) -> None:
        modifier.type, modifier.std_dev = _MODIFIERS[self.modifier], self.modifier_std
        modifier.pdrop = self.drop_connect
        if self.modifier == "none" and self.drop_connect > 0:
            modifier.type = WeightModifierType.DROP_CONNECT
        steps = self.dac_steps or 254
        if self.modifier == "discretize":
            modifier.res = 1 / steps
        elif self.modifier in ("discretize_add_normal", "dorefa"):
            modifier.res = 2 / steps  # aihwkit: of half the range
        if self.modifier in _FITS:
            modifier.coeffs = list(self.modifier_coeffs or _FITS[self.modifier])
        modifier.dorefa_clip = self.modifier_clip
        modifier.g_max = self.g_max_us or _FIT_G_MAX_US
        modifier.pcm_t_inference = self.modifier_t_inference_s

    def _noise_model(self) -> BaseNoiseModel:
        if self.noise_model == "reram_wan2022":
            return ReRamWan2022NoiseModel(g_max=self.g_max_us, noise_scale=self.prog_noise_scale)
        model: type[BaseNoiseModel] = {
            "pcm": PCMLikeNoiseModel,
            "hermes": HermesNoiseModel,
            "reram_cmo": ReRamCMONoiseModel,
            "state_independent": StateIndependentNoiseModel,
        }[self.noise_model]
        try:
            return model(
                g_max=self.g_max_us,
                prog_noise_scale=self.prog_noise_scale,
                read_noise_scale=self.read_noise_scale,
                drift_scale=self.drift_scale,
            )
        except (AssertionError, ValueError) as error:
            raise ConfigError(
                f"hardware.g_max_us: {self.g_max_us} uS does not fit the noise model "
                f"'{self.noise_model}': {error}; start from preset '{_PRESET_OF[self.noise_model]}'"
            ) from error


def create_rpu_config(preset: str = "pcm", **arguments: Any) -> TorchInferenceRPUConfig:
    """Describe the analog hardware as aihwkit does.

    >>> config = create_rpu_config("pcm", tile_size=256, out_noise=0.02)
    >>> config.mapping.max_input_size, config.forward.out_noise
    (256, 0.02)

    Args:
        preset: ``pcm`` (default), ``analognas``, ``analognas-as-coded``, ``hermes``, ``reram``,
            ``reram_cmo`` or ``ideal``; see ``PRESETS``.
        **arguments: any field of :class:`Hardware`, which gives units and ranges.

    Returns:
        aihwkit's ``TorchInferenceRPUConfig``, for ``convert`` or for aihwkit itself.

    Raises:
        ConfigError: unknown preset or argument, or a value outside its range.
    """
    known = {field.name for field in dataclasses.fields(Hardware)}
    for name in arguments:
        if name not in known:
            raise ConfigError(f"unknown hardware argument '{name}'; {nearest(name, known)}")
    return Hardware(preset, **arguments).rpu_config()


_FIT_G_MAX_US = 25.0
_FITS = {  # Nandakumar et al. 2019: programming noise of PCM, in uS at up to 25 uS
    "poly": (0.26348 / _FIT_G_MAX_US, 1.9650 / _FIT_G_MAX_US, -1.1731 / _FIT_G_MAX_US),
    "prog_noise": (0.26348, 1.9650, -1.1731),
}
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
_CHOICES: dict[str, tuple[str, ...]] = {
    "noise_management": ("none", "abs_max"),
    "weight_noise": tuple(_WEIGHT_NOISES),
    "modifier": tuple(_MODIFIERS),
    "learned_out_scale": ("none", "tile", "column"),
    "clip": ("none", "layer_gaussian", "fixed"),
    "remap": tuple(_REMAPS),
    "noise_model": ("pcm", "hermes", "reram_wan2022", "reram_cmo", "state_independent"),
    "drift_compensation": tuple(_COMPENSATIONS),
}


_PRESET_OF = {
    "pcm": "pcm",
    "hermes": "hermes",
    "reram_cmo": "reram_cmo",
    "state_independent": "pcm",
}


def _require_tile(size: object) -> None:
    sides = list(size) if isinstance(size, tuple | list) else [size, size]
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sides)
    if len(sides) != 2 or not whole:
        raise ConfigError(
            "hardware.tile_size: expected a whole number of at least 1, or (rows, columns), got "
            f"{size!r}"
        )


def _require(
    name: str,
    value: float,
    *,
    low: float,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    on_edge = (open_low and value == low) or (open_high and value == high)
    if _is_finite(value) and low <= value <= high and not on_edge:
        return
    span = f"{'above' if open_low else 'at least'} {low:g}"
    if math.isfinite(high):
        span += f" and {'below' if open_high else 'at most'} {high:g}"
    raise ConfigError(f"hardware.{name}: expected a finite number {span}, got {value!r}")


def _is_finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _require_coefficients(values: object) -> None:
    if values is None:
        return
    if not isinstance(values, tuple | list) or not values or not all(map(_is_finite, values)):
        raise ConfigError(
            f"hardware.modifier_coeffs: expected one finite number or more, got {values!r}"
        )


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            f"hardware.{name}: unknown value {value!r}; {nearest(str(value), choices)}"
        )
