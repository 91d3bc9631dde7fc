"""Times after programming at which a chip is known."""

from collections.abc import Iterable

from aihwkit.inference import ReRamWan2022NoiseModel

from analogmed.analog.aihwkit_config import noise_model_of
from analogmed.analog.rpu import Hardware
from analogmed.errors import ConfigError


def known_times(hardware: Hardware, times_s: Iterable[float]) -> list[float]:
    """Return those of some times that the noise model of a chip knows, in their order.

    Args:
        hardware: of the chip.
        times_s: seconds after programming.
    """
    model = noise_model_of(hardware)
    if not isinstance(model, ReRamWan2022NoiseModel):
        return list(times_s)
    return [time_s for time_s in times_s if time_s in model.coeff_dic]


def check_times(hardware: Hardware, times_s: Iterable[float]) -> None:
    """Refuse times that the noise model of a chip was not fitted at.

    Args:
        hardware: of the chip.
        times_s: seconds after programming.

    Raises:
        ConfigError: names the times, those that are known, and how to give them.
    """
    wanted = list(times_s)
    fitting = known_times(hardware, wanted)
    unknown = [time_s for time_s in wanted if time_s not in fitting]
    model = noise_model_of(hardware)
    if unknown and isinstance(model, ReRamWan2022NoiseModel):
        known = " ".join(f"{time_s:.15g}" for time_s in sorted(model.coeff_dic))
        raise ConfigError(
            f"sweep.times_s: hardware '{hardware.preset}' is not known at "
            f"{', '.join(f'{time_s:g}' for time_s in unknown)} s; give --sweep.times_s {known}"
        )
