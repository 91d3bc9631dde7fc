"""Weight noise of hardware-aware training, step by step."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor, nn

from analogmed.analog.aihwkit_backend.training import modifier_strength, tiles_of
from analogmed.analog.devices.programming import ProgrammedModel
from analogmed.analog.layers.base import AnalogLayer, analog_layers
from analogmed.analog.settings import require_ages
from analogmed.analog.tile.modifier import disturbed, scaled
from analogmed.analog.tile.precision import without_autocast
from analogmed.analog.tile.weight_perturbation import WeightPerturbation
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.time_constants import MONTH_S, T0_S
from analogmed.network.seeding import seeded

WeightNoise = Literal["modifier", "chips"]


class TrainingNoise:
    """Noise of hardware-aware training, in which every sample has an address.

    Each batch computes with its own weights. They are the same in all its forward passes, also
    where a layer is used twice or activation checkpointing recomputes a block. The gradient passes
    straight through to the digital weights, which are never overwritten:

    - ``"modifier"``: the hardware's weight modifier. The ramp scales ``std_dev``, drop-connect and,
      of ``pcm_noise``, the failures and the age. Rounding (``discretize``, ``dorefa`` and that part
      of ``discretize_add_normal``) has no magnitude and is not scaled.
    - ``"chips"``: a virtual chip is programmed from the current weights with the hardware's noise
      model, aged, and read once with read noise, as :class:`analogmed.Chip` does, including drift
      compensation. The modifier is not applied. With age t and the noise model's reference time t0,
      log(t + t0) is uniform, and so is the drift's strength, for t in ``ages_s``. A model that
      supports only some times uses one of these. The ramp interpolates linearly between the digital
      weights and those of the chip after compensation. All batches of a step share the same chip.
      Programming a chip takes longer than sampling the modifier, so that one chip may serve
      ``every`` steps; its deviations are added to the weights of each step.

    Inside ``step``, torch's global generators also use the step's seed (output noise, dropout), and
    their state is restored afterwards. A resumed run therefore needs only the number of the step to
    continue with the same noise. Where chips serve several steps, states are saved before a
    ``renew``.

    Args:
        model: analog model. aihwkit's own layers support the modifier only, and sample it in each
            forward pass.
        weights: kind of the weight noise.
        ramp_steps: number of steps over which the weight noise grows from 0 to its full magnitude.
        ages_s: minimum and maximum age of a virtual chip, in s.
        every: number of steps that share one virtual chip.
        seed: random seed of the whole training.
        rank: process of distributed training. All ranks compute with the same weights, as a single
            process would; output noise and dropout differ between ranks.

    Raises:
        ConfigError: a setting is out of its range, or aihwkit's layers do not support it.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weights: WeightNoise = "modifier",
        ramp_steps: int = 0,
        ages_s: tuple[float, float] = (T0_S, MONTH_S),
        every: int = 1,
        seed: int = 0,
        rank: int = 0,
    ) -> None:
        require_ages(ages_s)
        if ramp_steps < 0 or every < 1:
            raise ConfigError(
                f"the ramp must take 0 steps or more, got {ramp_steps}, and a chip serve 1 step or "
                f"more, got {every}"
            )
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        self._tiles = tiles_of(model)
        if self._tiles and weights != "modifier":
            raise ConfigError(
                "noise.weights 'chips' is not for aihwkit's own layers; take 'modifier', or "
                "another backend than 'aihwkit'"
            )
        self._layers = analog_layers(model)
        self._weights, self._ramp_steps, self._ages_s = weights, ramp_steps, ages_s
        self._every, self._seed, self._rank = every, seed, rank
        self._chip: dict[str, list[_Deviation]] = {}
        self._programmed_at = -1

    @contextmanager
    def step(self, index: int, part: int = 0) -> Iterator[None]:
        """Apply the noise of a step inside the ``with`` block, which may include the backward pass.

        Args:
            index: index of the optimizer step, from 0.
            part: number of the batch, where several batches form one step.
        """
        before = {name: layer.disturbance for name, layer in self._layers.items()}
        try:
            for name, disturbance in self._draw(index, part).items():
                self._layers[name].disturbance = disturbance
            with (
                modifier_strength(self._tiles, self.strength(index)),
                seeded(self._seed_of(index, part, "rank", self._rank)),
            ):
                yield
        finally:
            for name, layer in self._layers.items():
                layer.disturbance = before[name]

    def strength(self, index: int) -> float:
        """Return the magnitude of the weight noise in a step, as a share of its full magnitude."""
        return min(1.0, index / self._ramp_steps) if self._ramp_steps else 1.0

    def renew(self) -> None:
        """Let the next step program a new chip, however many steps the present one has served."""
        self._chip, self._programmed_at = {}, -1

    def _seed_of(self, index: int, *address: object) -> int:
        return derive_seed(self._seed, "step", int(index), *address)

    @torch.no_grad()
    def _draw(self, index: int, part: int) -> dict[str, WeightPerturbation]:
        strength = self.strength(index)
        with without_autocast():
            if self._weights == "modifier":
                return _modified(self._layers, strength, self._seed_of(index, part, "modifier"))
            if strength > 0:
                self._program(index, part)
            return {
                name: _towards(self._chip.get(name), layer, strength)
                for name, layer in self._layers.items()
            }

    def _program(self, index: int, part: int) -> None:
        served = index - self._programmed_at
        if self._chip and (0 < served < self._every or (served == 0 and part > 0)):
            return
        self._chip = _program(self._layers, self._ages_s, self._seed_of(index, "chip"))
        self._programmed_at = index


def age_s(model: BaseNoiseModel, ages_s: tuple[float, float], share: float) -> float:
    """Return a device age such that uniform shares give a uniform strength of drift.

    Args:
        model: noise model of aihwkit.
        ages_s: minimum and maximum age in s.
        share: share of all ages that are smaller, in [0, 1).

    Raises:
        ConfigError: the model supports no age in this interval.
    """
    known = getattr(model, "coeff_dic", None)
    if known is not None:
        fitting = sorted(time for time in known if ages_s[0] <= time <= ages_s[1])
        if not fitting:
            raise ConfigError(
                f"noise.ages_s is {list(ages_s)} s, but the noise model {type(model).__name__} "
                f"knows the times {sorted(known)} s only"
            )
        return float(fitting[int(share * len(fitting))])
    reference = float(getattr(model, "t_0", 1.0))
    first, last = (math.log1p(age / reference) for age in ages_s)
    return reference * math.expm1(first + share * (last - first))


def _modified(
    layers: Mapping[str, AnalogLayer], strength: float, seed: int
) -> dict[str, WeightPerturbation]:
    found = {}
    for name, layer in layers.items():
        modifier = scaled(layer.rpu_config.modifier, strength)
        with seeded(derive_seed(seed, name)):
            found[name] = WeightPerturbation(
                tuple(
                    disturbed(row.weight, layer.grid.cols, modifier, layer.copies)
                    for row in layer.reference_rows()
                )
            )
    return found


@dataclass(frozen=True)
class _Deviation:
    """Deviation of a row's compensated weights from the digital ones, and the compensation."""

    of_weight: Tensor
    gain: Tensor


def _program(
    layers: Mapping[str, AnalogLayer], ages_s: tuple[float, float], seed: int
) -> dict[str, list[_Deviation]]:
    if not layers:
        return {}
    generator = torch.Generator().manual_seed(derive_seed(seed, "age"))
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    age = age_s(next(iter(layers.values())).rpu_config.noise_model, ages_s, share)
    chip = ProgrammedModel(layers, derive_seed(seed, "program"))
    return {
        name: [
            _Deviation(weight * gain[:, :, None] - row.weight, gain)
            for row, (weight, gain) in zip(layers[name].reference_rows(), tiles, strict=True)
        ]
        for name, tiles in chip.read_tiles(age, derive_seed(seed, "read")).items()
    }


def _towards(
    chip: list[_Deviation] | None, layer: AnalogLayer, strength: float
) -> WeightPerturbation:
    """Interpolate between digital and chip weights; the result is before drift compensation."""
    rows = layer.reference_rows()
    if chip is None or strength == 0:
        return WeightPerturbation(tuple(row.weight for row in rows))
    gains = tuple(1 + strength * (deviation.gain - 1) for deviation in chip)
    weights = (
        (row.weight + strength * deviation.of_weight) / gain[:, :, None]
        for row, deviation, gain in zip(rows, chip, gains, strict=True)
    )
    return WeightPerturbation(tuple(weights), gains)
