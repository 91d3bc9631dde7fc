"""Network outlines: names, shapes and data types of weights, without memory for their values."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from analogmed.foundation.errors import ConfigError

MOST_TENSORS = 10_000
"""Largest number of tensors that the construction of a described network may create."""

_CREATES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})


def outline_of(build: Callable[[], nn.Module], *, most_values: float = math.inf) -> nn.Module:
    """Build a network with names, shapes and data types of its weights, but without their memory.

    Weights are created on torch's ``meta`` device. If the construction reads the values of a
    weight, which are not available there, the network is built with memory, up to a limit. The
    state of random generators is preserved.

    Args:
        build: function that builds and returns the network.
        most_values: largest number of values in a network that is built with memory.

    Raises:
        ConfigError: the construction creates more than :data:`MOST_TENSORS` tensors, or more than
            ``most_values`` values in memory.
    """
    with torch.random.fork_rng(devices=()):
        try:
            with _Creation(device="meta"):
                return build()
        except _TooLargeError:
            raise
        except Exception:  # any error of a constructor without weight values
            with _Creation(device=None, most_values=most_values):
                return build()


class _TooLargeError(ConfigError):
    """The network exceeds its size limit."""


class _Creation(TorchFunctionMode):
    """Counter of the tensors created inside the block, which also selects the device of weights.

    Ranges and other constants keep their values, because a constructor may read them.

    Args:
        device: device of new tensors; ``None`` leaves it to the caller.
        most_values: limit on the total number of values in all new tensors.
    """

    def __init__(self, device: str | None, most_values: float = math.inf) -> None:
        super().__init__()
        self._device, self._most_values = device, most_values
        self._tensors = self._values = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _CREATES:
            self._count(func, args, kwargs)
            if self._device and kwargs.get("device") is None and kwargs.get("out") is None:
                kwargs["device"] = self._device
        return func(*args, **kwargs)

    def _count(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self._tensors += 1
        if self._tensors > MOST_TENSORS:
            raise _TooLargeError(
                f"the network has too many weights; expected at most {MOST_TENSORS:,} tensors "
                "(MOST_TENSORS)"
            )
        if self._most_values < math.inf:
            self._values += func(*args, **{**kwargs, "device": "meta", "out": None}).numel()
        if self._values > self._most_values:
            raise _TooLargeError(
                f"the network is too large; expected at most {self._most_values:,.0f} values "
                "for the weights that the file contains"
            )
