"""Products of float32 numbers in float32, where torch would round weights to 11 or 8 bits."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

_Layer = TypeVar("_Layer", bound=nn.Module)
_Rest = ParamSpec("_Rest")

_SETTINGS = (
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.cuda.matmul,
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
)


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Compute convolutions and matrix products of float32 numbers without TF32 meanwhile.

    torch lets cuDNN round both factors of a convolution to TF32 (11 significant bits). Codes of an
    8-bit DAC fit into these; weights do not, and of the sums, those near the edge between two codes
    of the ADC fall on the other side. torch keeps the setting for the whole process, its other
    threads included.

    Args:
        device: where the product is computed; only GPUs have TF32.
    """
    return _without_tf32() if device.type == "cuda" else nullcontext()


@contextmanager
def without_autocast() -> Iterator[None]:
    """Compute in the types that the operands have, also under ``torch.autocast``."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def in_type_of_weight(
    forward: Callable[Concatenate[_Layer, Tensor, _Rest], Tensor],
) -> Callable[Concatenate[_Layer, Tensor, _Rest], Tensor]:
    """Let a layer's forward take and give the type of its weight, also under ``torch.autocast``."""

    @wraps(forward)
    def run(layer: _Layer, input: Tensor, *args: _Rest.args, **named: _Rest.kwargs) -> Tensor:
        if not torch.is_autocast_enabled(input.device.type):
            return forward(layer, input, *args, **named)
        weight: Any = layer.weight
        with without_autocast():
            return forward(layer, input.to(weight.dtype), *args, **named)

    return run


@contextmanager
def _without_tf32() -> Iterator[None]:
    before = [setting.fp32_precision for setting in _SETTINGS]
    by_name = _matmul_precision()
    torch.set_float32_matmul_precision("highest")  # of GPUs and CPUs
    _SETTINGS[0].fp32_precision = "ieee"
    try:
        yield
    finally:
        if by_name is not None:
            torch.set_float32_matmul_precision(by_name)
        for setting, precision in zip(_SETTINGS, before, strict=True):
            setting.fp32_precision = precision


def _matmul_precision() -> str | None:
    """As torch's older interface has it, which refuses to read what the newer one has changed."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
