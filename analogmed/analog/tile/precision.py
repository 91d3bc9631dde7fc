"""Full float32 precision of products, where torch would round weights to 11 or 8 bits."""

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
    """Compute convolutions and matrix products of float32 inside the block without TF32.

    torch lets cuDNN round both factors of a convolution to TF32 (11 significant bits). The codes of
    an 8-bit DAC are exact in TF32, but weights are not, so that sums near the edge between two ADC
    codes get the wrong code. torch keeps the setting for the whole process, including its other
    threads.

    Args:
        device: device of the product; only GPUs have TF32.
    """
    return _without_tf32() if device.type == "cuda" else nullcontext()


@contextmanager
def without_autocast() -> Iterator[None]:
    """Compute in the data types of the operands, also under ``torch.autocast``."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def in_type_of_weight(
    forward: Callable[Concatenate[_Layer, Tensor, _Rest], Tensor],
) -> Callable[Concatenate[_Layer, Tensor, _Rest], Tensor]:
    """Wrap a forward pass to use the data type of the weight, also under ``torch.autocast``."""

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
    """Return the setting of torch's older interface; ``None`` if the newer one has changed it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
