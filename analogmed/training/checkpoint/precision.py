"""Floating-point type in which a checkpoint stores the weights of layers."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.training.checkpoint.tile_parameters import INPUT_RANGE, OUT_SCALE

Precision = Literal["float32", "float16", "bfloat16"]


def in_precision(
    tensors: Mapping[str, Tensor], dtype: Precision | torch.dtype, source: str
) -> dict[str, Tensor]:
    """Convert matrices and kernels to another floating-point type.

    Only floating-point tensors with two or more dimensions are converted, which are nearly all
    values of a network. Biases, parameters and statistics of norms, input ranges and output scales
    keep their type: they are few, and running variances may exceed the range of float16.

    Args:
        tensors: tensors of a checkpoint by name.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``, or torch's object of this name.
        source: start of a message, for instance ``"cannot write net.safetensors"``.

    Raises:
        ConfigError: ``dtype`` is none of these.
        CheckpointError: finite values are outside the range of the type.
    """
    precision = str(dtype).removeprefix("torch.")
    if precision not in get_args(Precision):
        raise ConfigError(
            f"{source}: dtype: expected one of {', '.join(get_args(Precision))}, got {dtype!r}"
        )
    kind = getattr(torch, precision)
    return {
        name: _converted(name, tensor, kind, source) if _is_kernel(name, tensor) else tensor
        for name, tensor in tensors.items()
    }


def _is_kernel(name: str, tensor: Tensor) -> bool:
    return (
        tensor.is_floating_point()
        and tensor.ndim >= 2
        and not name.endswith((INPUT_RANGE, OUT_SCALE))
    )


def _converted(name: str, tensor: Tensor, kind: torch.dtype, source: str) -> Tensor:
    converted = tensor.to(kind)
    lost = torch.isfinite(tensor) & ~torch.isfinite(converted)
    if lost.any():
        raise CheckpointError(
            f"{source}: dtype: expected weights of at most {torch.finfo(kind).max:.4g}, got "
            f"{tensor[lost].abs().max():.4g} in '{name}'. Store the network as bfloat16 or float32."
        )
    return converted
