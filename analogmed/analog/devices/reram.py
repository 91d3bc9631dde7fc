"""ReRAM devices that keep their programming error from read to read.

aihwkit's ReRAM models sample the whole error of a device each time its conductance is computed, as
if every read reprogrammed the chip. Here the error of a device is a standard normal number that is
sampled at programming and fixed for the chip; time scales it. At any given time, the conductances
have the distribution of aihwkit's models.
"""

import copy
import math
from collections.abc import Iterable

import torch
from aihwkit.inference import ReRamCMONoiseModel, ReRamWan2022NoiseModel
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import time_label


def check_times(model: BaseNoiseModel, times_s: Iterable[float]) -> None:
    """Raise an error for times at which a noise model has no data.

    Args:
        model: noise model of aihwkit; only that of Wan et al. has a list of times.
        times_s: times since programming in s.

    Raises:
        ConfigError: lists the times of the model.
    """
    if not isinstance(model, ReRamWan2022NoiseModel):
        return
    unknown = [time_label(time_s) for time_s in times_s if time_s not in model.coeff_dic]
    if not unknown:
        return
    names = [time_label(known_s) for known_s in sorted(model.coeff_dic)]
    seconds = " ".join(f"{known_s:g}" for known_s in sorted(model.coeff_dic))
    raise ConfigError(
        f"times: the noise model ReRamWan2022NoiseModel has no values at {', '.join(unknown)}; "
        f"expected one of {', '.join(names)}. Give these only: --sweep.times_s {seconds}, or "
        f"times={names} in Python. The preset reram_cmo has values at all times."
    )


def with_memory(model: BaseNoiseModel) -> BaseNoiseModel:
    """Return a noise model whose devices keep their programming error.

    Args:
        model: noise model of aihwkit. Its two ReRAM models are replaced by a copy with memory; all
            others, subclasses included, are returned unchanged.
    """
    kind = _WITH_MEMORY.get(type(model))
    if kind is None:
        return model
    remembering = copy.copy(model)
    remembering.__class__ = kind
    return remembering


class RememberingWan2022(ReRamWan2022NoiseModel):
    """Devices of Wan et al. 2022: g(t) = max(0, target + sigma(target, t) z), one z per device."""

    @torch.no_grad()
    def apply_programming_noise_to_conductance(self, g_target: Tensor) -> Tensor:
        """Return the conductances in uS at the first time of the fit, and sample ``z``.

        ``generate_drift_coefficients`` returns the ``z`` of each call in turn.
        """
        deviate = torch.randn_like(g_target)
        self.__dict__.setdefault("_drawn", []).append(deviate)
        return self._conductance(g_target, deviate, min(self.coeff_dic))

    @torch.no_grad()
    def generate_drift_coefficients(self, g_target: Tensor) -> Tensor:
        """Return targets in uS and standard normal numbers, stacked to (2, *shape)."""
        return torch.stack([g_target, self._drawn.pop(0)])

    @torch.no_grad()
    def apply_drift_noise_to_conductance(
        self, g_prog: Tensor, drift_noise_param: Tensor, t_inference: float
    ) -> Tensor:
        """Return the conductances in uS at a time in s.

        Raises:
            ConfigError: the fit does not include this time.
        """
        check_times(self, [t_inference])
        return self._conductance(drift_noise_param[0], drift_noise_param[1], t_inference)

    def _conductance(self, target: Tensor, deviate: Tensor, time_s: float) -> Tensor:
        relative = target / self.g_max
        sigma = torch.zeros_like(target)
        for coefficient in reversed(self.coeff_dic[time_s]):
            sigma = sigma * relative + coefficient
        scale = self.noise_scale * self.g_max / self.coeff_g_max_reference
        return (target + scale * sigma * deviate).clamp(min=0.0)


class RememberingCMO(ReRamCMONoiseModel):
    """CMO/HfOx devices whose relaxation is one standard normal number per device.

    Programming noise is aihwkit's. Read noise is sampled in each read.
    """

    @torch.no_grad()
    def generate_drift_coefficients(self, g_target: Tensor) -> Tensor:
        """Return the standard normal numbers of the relaxation."""
        return torch.randn_like(g_target)

    @torch.no_grad()
    def apply_drift_noise_to_conductance(
        self, g_prog: Tensor, drift_noise_param: Tensor, t_inference: float
    ) -> Tensor:
        """Return the conductances in uS at a time in s; right after programming ``g_prog``."""
        if t_inference == 0:
            return g_prog
        log_time = math.log(t_inference)
        slope, intercept = self.decay_dict["std"]
        spread = (slope * log_time + intercept) * drift_noise_param
        shift = self.decay_dict["mean"][0] * log_time
        relaxed = g_prog + self.drift_scale * (shift + spread)
        read_time = self.read_dict["t_read"]
        reads = math.log((t_inference + read_time) / (2 * read_time))
        growth = math.sqrt(reads) if reads >= 0 else math.nan  # the model has no shorter times
        sigma = self.read_noise_scale * self.read_dict["K"] * growth * relaxed.log10()
        read = relaxed + sigma * torch.randn_like(relaxed)
        return read.clamp(min=self.g_min, max=self.g_max)


_WITH_MEMORY: dict[type[BaseNoiseModel], type[BaseNoiseModel]] = {
    ReRamWan2022NoiseModel: RememberingWan2022,
    ReRamCMONoiseModel: RememberingCMO,
}
