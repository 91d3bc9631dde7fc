"""Distribution of absolute values over many batches, for their quantiles."""

import math

import torch
from torch import Tensor

_MANTISSA_BITS = 12
_SHIFT = 23 - _MANTISSA_BITS  # float32 has 23
_BINADE = 1 << _MANTISSA_BITS  # bins between two powers of two
_CHUNK = 1 << 20  # values that are counted at once


class Histogram:
    """Number of values in each bin, from the lowest bin above 0 to the highest that is not empty.

    Values of 0 or more are counted in bins of the float32 format with 12 bits of mantissa, so that
    the counts of different batches add up. A quantile is the upper edge of its bin, at most 1/4096
    above the exact one, or the largest value if that is less. The counts use 32 KiB for each power
    of two in between, at most 8 MiB.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None  # zeros, then the bins from self._first on
        self._first = 1
        self._largest = 0.0

    def add(self, values: Tensor) -> None:
        """Count values of 0 or more, of any shape."""
        for part in values.flatten().float().split(_CHUNK):
            if part.numel():
                self._add(part)

    def _add(self, values: Tensor) -> None:
        bins = values.view(torch.int32) >> _SHIFT
        highest = bins.max()
        lowest = torch.where(bins > 0, bins, highest).min()
        counts = self._counts_of(int(lowest), int(highest), bins.device)
        places = bins.sub_(self._first - 1).clamp_(min=0)
        counts.index_add_(0, places, counts.new_ones(()).expand(len(places)))
        self._largest = max(self._largest, float(values.max()))

    @torch.inference_mode(False)  # so that later calls in another mode can add to the counts
    def _counts_of(self, lowest: int, highest: int, device: torch.device) -> Tensor:
        """Return the counts, extended by whole powers of two so that they cover these bins."""
        counts = self._counts
        if counts is None:
            counts = torch.zeros(1, dtype=torch.int64, device=device)
        if highest > 0:
            first = max(1, lowest // _BINADE * _BINADE)
            stop = (highest // _BINADE + 1) * _BINADE
            if len(counts) == 1:
                self._first = first
            below = max(0, self._first - first)
            above = max(0, stop - self._first - (len(counts) - 1))
            if below or above:
                self._first -= below
                parts = counts[:1], counts.new_zeros(below), counts[1:], counts.new_zeros(above)
                counts = torch.cat(parts)
        self._counts = counts
        return counts

    def range(self, quantile: float) -> float:
        """Return the quantile, or the largest value if it is 0, or 1 if that is 0 as well."""
        if self._counts is None or self._largest == 0:
            return 1.0
        total = self._counts.cumsum(0)
        number = int(total[-1])
        rank = min(number, max(1, math.ceil(quantile * number)))
        place = int((total < rank).sum())
        if place == 0:  # zeros
            return self._largest
        edge = torch.tensor((self._first + place) << _SHIFT, dtype=torch.int32).view(torch.float32)
        return min(float(edge), self._largest)
