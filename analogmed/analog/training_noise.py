"""What disturbs the weights in hardware-aware training, step by step."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from aihwkit.simulator.parameters.inference import WeightModifierParameter
from torch import Tensor, nn

from analogmed.analog.disturbance import Disturbance
from analogmed.analog.layers import AnalogLayer
from analogmed.analog.modifier import disturbed
from analogmed.analog.programming import ProgrammedModel
from analogmed.analog.random import drawing_from
from analogmed.errors import ConfigError
from analogmed.seeds import derive_seed

WeightNoise = Literal["modifier", "chips"]


class TrainingNoise:
    """The noise of hardware-aware training, whose every draw has an address.

    Each step computes with weights of its own, the same in all forward passes of the step (also
    where a layer is used twice, or a block is computed again by activation checkpointing), and the
    gradient passes straight through to the digital weights, which are never overwritten:

    - ``"modifier"``: the hardware's weight modifier. The ramp scales ``std_dev``, drop-connect and,
      of ``pcm_noise``, the failures and the age. Rounding (``discretize``, ``dorefa`` and that part
      of ``discretize_add_normal``) has no size and stays as it is.
    - ``"chips"``: a chip is programmed from the present weights with the hardware's noise model,
      aged and read once with read noise, as :class:`analogmed.Chip` does, drift compensation
      included; the modifier is not applied. With age t and the noise model's reference time t0,
      log(t + t0) is uniform, so that the drift's strength is; t is at most ``longest_s``. A model
      that knows only some times draws one of these. The ramp goes on a straight line from the
      digital weights to those of the chip after compensation.

    Inside ``step``, torch's global generators draw from the step's seed too (output noise, dropout)
    and go on afterwards as if nothing had been drawn. A resumed run therefore needs no more than
    the number of the step to go on with the same noise.

    Args:
        model: an analog model. aihwkit's own layers know the modifier only, and draw it anew in
            each forward.
        weights: kind of the weight noise.
        ramp_steps: steps over which the weight noise grows from 0 to its full size.
        longest_s: largest age of a chip, in s.
        seed: of the whole training.
        rank: process of distributed training. All ranks compute with the same weights, as one
            process would; output noise and dropout are a rank's own.

    Raises:
        ConfigError: a setting out of its range, or one that aihwkit's layers do not know.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weights: WeightNoise = "modifier",
        ramp_steps: int = 0,
        longest_s: float = 2_592_000.0,
        seed: int = 0,
        rank: int = 0,
    ) -> None:
        if not math.isfinite(longest_s) or longest_s < 0:
            raise ConfigError(f"noise.longest_s must be 0 s or more and finite, got {longest_s!r}")
        if ramp_steps < 0:
            raise ConfigError(f"the ramp must take 0 steps or more, got {ramp_steps}")
        self._layers = {n: m for n, m in model.named_modules() if isinstance(m, AnalogLayer)}
        self._weights, self._ramp_steps, self._longest_s = weights, ramp_steps, longest_s
        self._seed, self._rank = seed, rank

    @contextmanager
    def step(self, index: int, *part: int) -> Iterator[None]:
        """Compute with the noise of a step inside the ``with`` block, which may hold the backward.

        Args:
            index: of the optimizer's step, from 0.
            *part: of the step, where several batches make one step; each has its own noise.
        """
        seed = derive_seed(self._seed, "step", int(index), *map(int, part))
        before = {name: layer.disturbance for name, layer in self._layers.items()}
        try:
            for name, disturbance in self.draw(index, *part).items():
                self._layers[name].disturbance = disturbance
            with drawing_from(derive_seed(seed, "rank", self._rank)):
                yield
        finally:
            for name, layer in self._layers.items():
                layer.disturbance = before[name]

    def strength(self, index: int) -> float:
        """Size of the weight noise in a step, a share of its full size."""
        return min(1.0, index / self._ramp_steps) if self._ramp_steps else 1.0

    @torch.no_grad()
    def draw(self, index: int, *part: int) -> dict[str, Disturbance]:
        """The weights of a step, by the name of the layer; drawn from the present weights."""
        seed = derive_seed(self._seed, "step", int(index), *map(int, part))
        strength = self.strength(index)
        if self._weights == "modifier":
            return _modified(self._layers, strength, derive_seed(seed, "modifier"))
        if strength == 0 or not self._layers:
            return {name: _undisturbed(layer) for name, layer in self._layers.items()}
        return _on_a_chip(self._layers, strength, self._longest_s, derive_seed(seed, "chip"))


def age_s(model: BaseNoiseModel, longest_s: float, share: float) -> float:
    """An age of devices whose drift is spread evenly.

    Args:
        model: aihwkit's noise model.
        longest_s: largest age in s.
        share: of all ages, those that are below; in [0, 1).

    Raises:
        ConfigError: the model knows no age up to the longest.
    """
    known = getattr(model, "coeff_dic", None)
    if known is not None:
        fitting = sorted(time for time in known if time <= longest_s)
        if not fitting:
            raise ConfigError(
                f"noise.longest_s is {longest_s:g} s, but the noise model {type(model).__name__} "
                f"knows the times {sorted(known)} s only"
            )
        return float(fitting[int(share * len(fitting))])
    reference = float(getattr(model, "t_0", 1.0))
    return reference * math.expm1(share * math.log1p(longest_s / reference))


def scaled(modifier: WeightModifierParameter, strength: float) -> WeightModifierParameter:
    """The modifier with a share of its full size; what has no size stays as it is."""
    return replace(modifier, **{name: strength * getattr(modifier, name) for name in _SIZES})


_SIZES = (
    "std_dev",
    "pdrop",
    "pcm_t_inference",
    "pcm_prob_at_reset",
    "pcm_prob_at_gmax",
    "pcm_prob_at_random",
)


def _modified(
    layers: Mapping[str, AnalogLayer], strength: float, seed: int
) -> dict[str, Disturbance]:
    found = {}
    for name, layer in layers.items():
        modifier = scaled(layer.rpu_config.modifier, strength)
        with drawing_from(derive_seed(seed, name)):
            found[name] = Disturbance(
                tuple(
                    disturbed(row.weight, layer.grid.cols, modifier)
                    for row in layer.reference_rows()
                )
            )
    return found


def _undisturbed(layer: AnalogLayer) -> Disturbance:
    return Disturbance(tuple(row.weight for row in layer.reference_rows()))


def _on_a_chip(
    layers: Mapping[str, AnalogLayer], strength: float, longest_s: float, seed: int
) -> dict[str, Disturbance]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "age"))
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    hardware = next(iter(layers.values())).rpu_config
    age = age_s(hardware.noise_model, longest_s, share)
    chip = ProgrammedModel(layers, derive_seed(seed, "program"))
    read = chip.read_tiles(age, derive_seed(seed, "read"))
    if strength == 1:
        return {
            n: Disturbance(tuple(w for w, _ in r), tuple(g for _, g in r)) for n, r in read.items()
        }
    return {name: _on_the_way(layers[name], rows, strength) for name, rows in read.items()}


def _on_the_way(
    layer: AnalogLayer, chip: list[tuple[Tensor, Tensor]], strength: float
) -> Disturbance:
    """Between the digital weights and those of a chip, whose compensated weights are mixed."""
    weights, gains = [], []
    for row, (weight, factor) in zip(layer.reference_rows(), chip, strict=True):
        gain = torch.lerp(torch.ones_like(factor), factor, strength)
        mixed = torch.lerp(row.weight, weight * factor[:, :, None], strength)
        weights.append(mixed / gain[:, :, None])
        gains.append(gain)
    return Disturbance(tuple(weights), tuple(gains))
