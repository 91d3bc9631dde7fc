"""The hardware description: a named preset, and the arguments that differ from it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from analogmed.analog.description.device_models import NoiseModelName, device_model
from analogmed.analog.description.presets import PRESETS, spelled_preset
from analogmed.analog.description.ranges import check_ranges
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.text import nearest

Backend = Literal["auto", "torch", "numba", "triton", "aihwkit"]
"""Computation of the products of analog layers."""
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

_OF_PRESET: Any = None
_MODIFIERS_OF_DEVICES = ("poly", "prog_noise", "pcm_noise")  # std_dev is a factor on their noise


@checks_arguments
@dataclass(frozen=True)
class Hardware:
    """The arguments of :func:`create_rpu_config`; what is left out is taken from the preset.

    Attributes:
        preset: pcm, analognas, analognas-as-coded, hermes, reram, reram_cmo or ideal.
        perfect: switch off converters with their input ranges, bounds, and noise of inputs,
            products and outputs. Devices keep their noise.
        tile_size: rows and columns of one crossbar tile, 1 or more; one number for a square.
        row_copies: largest number of times that each weight is stored on rows of its tile that
            would be idle otherwise, 1 or more. With more copies, sums are larger against the
            output noise, and the errors of the devices average.
        dac_steps: number of steps of the input converter; 254 steps are 8 bits, symmetric around 0.
            0 switches it off.
        adc_steps: number of steps of the output converter; 254 steps are 8 bits, symmetric around
            0. 0 switches it off.
        inp_bound: largest input to the tile, in units of the input range. Above 0.
        out_bound: largest output of the tile, in units of (full input x full weight). Above 0.
        inp_noise: standard deviation of the input noise, in units of the input range. 0 or more.
        out_noise: standard deviation of the output noise, in units of the output. 0 or more.
        weight_noise: weight noise that is resampled in each product: the same for all weights
            (``additive``), or proportional to the root of the weight (``pcm_read``).
        weight_noise_std: standard deviation of the weight noise, relative to the largest weight,
            for a weight of that size. 0 or more.
        noise_management: scaling of an input vector before the converter: by a static range
            (``none``) or by its largest absolute value (``abs_max``).
        input_range: use static input ranges, which are calibrated or learned in training.
        input_range_decay: decay of an input range that is learned in training. 0 or more.
        input_range_keep: share of inputs above which a learned input range shrinks. In (0, 1].
        modifier: weight noise of a training step, used with noise.weights modifier only; by
            default, training uses virtual chips. Gaussian noise, added or multiplied; rounding
            to the number of DAC steps (254 without DAC), also with added noise or by DoReFa; noise
            whose size is a polynomial of the weight (``poly``), which keeps the sign
            (``prog_noise``); or PCM devices, programmed and aged (``pcm_noise``).
        modifier_std: standard deviation of the modifier, relative to the largest weight of the
            tile; with ``poly``, ``prog_noise`` and ``pcm_noise`` a factor on the noise of the
            devices, 1 by default. 0 or more.
        modifier_coeffs: coefficients of |weight / largest| ** 0, 1, ...: of ``poly`` in units of
            the largest weight, of ``prog_noise`` in uS. ``None`` is the programming noise of
            the noise models ``pcm`` and ``hermes`` themselves, of the others the fit to PCM.
        modifier_clip: largest weight after the modifier ``dorefa``, in units of the mapped weight.
            Above 0.
        modifier_t_inference_s: time since programming of the devices of the modifier ``pcm_noise``,
            in s. 0 or more.
        drop_connect: share of the weights that a training step sets to zero, with any modifier. 0
            or more, below 1.
        learned_out_scale: digital factor on the outputs of each tile, or of each of its columns,
            learned in training.
        clip: weight clipping after each training step.
        clip_sigma: threshold of this clipping in standard deviations (``layer_gaussian``). Above 0.
        clip_value: threshold of this clipping in units of the largest weight (``fixed``). Above 0.
        remap: mapping of weights to conductances: one scale per tile (``layerwise``), or one per
            column (``channelwise``). The scales follow the weights. ``none`` is ``layerwise``,
            except that ``fixed`` clipping refers to the weights before training.
        noise_model: aihwkit's statistical model of programming, drift and read noise.
        g_max_us: largest conductance in uS; ``None`` is the noise model's own. Above 0; 40 with
            ``reram_wan2022``, whose fit is for this value.
        prog_noise_scale: factor on the programming noise. 0 or more.
        read_noise_scale: factor on the read noise. 0 or more. ``reram_wan2022`` has one factor for
            all, ``prog_noise_scale``.
        drift_scale: factor on the drift exponents. 0 or more.
        drift_compensation: digital factor that corrects the mean drift, from a read-out of the
            tile: one per tile, relative to a read-out after programming (``global``) or to the
            digital weights (``global_exact``), or one per column (``per_column``).
        acceptance_range_percent: acceptance range of the program-and-verify loop of ``reram_cmo``,
            in % of the target conductance. 0.2 (default) or 2, the two fits of aihwkit.
    """

    preset: str = "pcm"
    perfect: bool = _OF_PRESET
    tile_size: int | tuple[int, int] = _OF_PRESET
    row_copies: int = _OF_PRESET
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
    acceptance_range_percent: float = _OF_PRESET

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str):
            raise ConfigError(
                f"hardware.preset: expected the name of a preset, got {type(self.preset).__name__}"
            )
        object.__setattr__(self, "preset", spelled_preset(self.preset))
        defaults = PRESETS[self.preset]
        if (self.modifier or defaults["modifier"]) in _MODIFIERS_OF_DEVICES:
            defaults = defaults | {"modifier_std": 1.0}  # a factor on the noise of the devices
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        check_ranges(self)
        preset = PRESETS[self.preset]
        if any(getattr(self, name) != preset[name] for name in ("noise_model", "g_max_us")):
            device_model(self.noise_model).make(self)  # refuses a conductance that does not fit

    @property
    def changes(self) -> dict[str, Any]:
        """Arguments that differ from those of the preset."""
        preset = Hardware(self.preset)
        names = [field.name for field in fields(self)]
        return {n: getattr(self, n) for n in names if getattr(self, n) != getattr(preset, n)}

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        size = self.tile_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])


def hardware_from(arguments: Mapping[str, Any]) -> Hardware:
    """Return the description with some arguments, by name.

    Raises:
        ConfigError: an argument is unknown, or a value is outside its range.
    """
    known = [field.name for field in fields(Hardware)]
    for name in arguments:
        if name not in known:
            raise ConfigError(f"unknown hardware argument '{name}'; {nearest(name, known)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arguments.items()
    }
    return Hardware(**values)
