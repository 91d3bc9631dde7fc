"""Products of float32 numbers in float32 on GPUs, where torch would round weights to 11 bits."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

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
