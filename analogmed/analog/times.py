"""Times after programming at which a chip is known."""

from collections.abc import Iterable

from aihwkit.inference import ReRamWan2022NoiseModel

from analogmed.analog.aihwkit_config import noise_model_of
from analogmed.analog.rpu import Hardware
from analogmed.foundation.errors import ConfigError


def known_times(hardware: Hardware) -> tuple[float, ...] | None:
    """Return the only times in s that the noise model was fitted at; ``None`` if it knows all."""
    model = noise_model_of(hardware)
    return tuple(sorted(model.coeff_dic)) if isinstance(model, ReRamWan2022NoiseModel) else None


def check_times(hardware: Hardware, times_s: Iterable[float]) -> None:
    """Refuse times that the noise model of a chip was not fitted at.

    Args:
        hardware: the chip.
        times_s: seconds after programming.

    Raises:
        ConfigError: names the times, those that are known, and how to give them.
    """
    known = known_times(hardware)
    if known is None:
        return
    unknown = [time_s for time_s in times_s if time_s not in known]
    if unknown:
        raise ConfigError(
            f"sweep.times_s: hardware '{hardware.preset}' is not known at "
            f"{', '.join(f'{time_s:g}' for time_s in unknown)} s; give --sweep.times_s "
            f"{' '.join(f'{time_s:.15g}' for time_s in known)}"
        )
