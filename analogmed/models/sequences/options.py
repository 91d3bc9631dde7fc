"""Checks of the options of networks for sequences."""

from torch import Tensor

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one


def check_dimensions(network: str, spatial_dims: int) -> None:
    """Raise ConfigError if a network of signals is requested for images.

    Args:
        network: name of the network, for the message.
        spatial_dims: number of spatial dimensions of the task.
    """
    if spatial_dims != 1:
        raise ConfigError(
            f"model.name: {network} takes signals (leads, samples); expected a task of 1 spatial "
            f"dimension, got {spatial_dims}. Choose a network for images."
        )


def check_flags(**flags: object) -> None:
    """Raise ConfigError if an option of a network is neither true nor false."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigError(f"model.options.{name}: expected true or false, got {flag!r}")


def at_every_sample(logits: Tensor, samples: int) -> Tensor:
    """Return logits of steps (B, steps, K) at every sample of their step, (B, K, steps * samples).

    Args:
        logits: logits after each step.
        samples: number of samples of a step.
    """
    return logits.transpose(1, 2).repeat_interleave(samples, dim=2)


def check_numbers(**numbers: int) -> None:
    """Raise ConfigError if an option of a network is not a whole number of 1 or more."""
    for name, number in numbers.items():
        require_at_least_one(f"model.options.{name}", number)
