"""Monte Carlo uncertainty of a prediction: maps from many passes of one input, streamed.

A map has a value for each position: a voxel, or a label of a classified image.

A pass is one read of one chip, one draw of dropout or one member of an ensemble. Passes are not
stored, only means, sums of squares (Welford 1962, Technometrics 4(3)) and sums of entropies.

One logit gives the probability p of the one class (sigmoid); several give one probability per
class, background first (softmax). Variances are summed over the classes and halved, so that one
logit and two equivalent logits give the same variance, that of p.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analogmed.foundation.errors import NonFiniteError, ShapeError

_SUM_SLACK = 1e-3


@dataclass(frozen=True)
class UncertaintyMaps:
    """Voxel-wise uncertainty of many passes of one input.

    Attributes:
        mean: mean probability, float32, shape (N, K, *spatial).
        entropy: predictive entropy (entropy of the mean) in nats, shape (N, *spatial).
        expected_entropy: mean of the passes' entropies in nats; more passes do not reduce it.
        variance: variance of one pass of a randomly drawn chip; NaN for a single pass.
        read_variance: part of the variance within a chip, between reads (read noise and output
            noise); NaN with one read per chip.
        chip_variance: part of the variance between chips (programming noise, and the drift
            exponents drawn with it). Unbiased, so small values can be negative; NaN with one chip,
            or one read per chip.
        n_chips, n_reads: numbers of chips and of reads per chip; their product is the number of
            passes.
    """

    mean: np.ndarray
    entropy: np.ndarray
    expected_entropy: np.ndarray
    variance: np.ndarray
    read_variance: np.ndarray
    chip_variance: np.ndarray
    n_chips: int
    n_reads: int

    @property
    def mutual_information(self) -> np.ndarray:
        """Entropy of the mean minus mean entropy, in nats: the disagreement of the passes.

        Source: Depeweg et al. 2018, arXiv:1710.07283. Biased downwards with few passes.
        """
        return np.maximum(self.entropy - self.expected_entropy, 0.0)


class UncertaintyStream:
    """Accumulator of passes, chip after chip, for the maps of all of them.

    The variance is split as in a one-way analysis of variance with random effects, for C chips of
    R reads. The mean square within chips estimates the read variance. The mean square between chips
    minus that within chips, divided by R, estimates the chip variance. Both are unbiased.

    Source: Searle, Casella, McCulloch 1992, Variance Components, chapter 3.
    """

    def __init__(self) -> None:
        self._chips: list[object] = []
        self._reads_of: list[int] = []
        self._chip_mean = self._mean = self._entropy = torch.empty(0)
        self._chip_squares = self._within = self._between = torch.empty(0)

    def add(self, prob: Tensor, chip: object = 0) -> None:
        """Add one pass.

        Args:
            prob: probabilities, shape (N, K, *spatial).
            chip: chip of the pass; passes of one chip must be consecutive.

        Raises:
            ShapeError: the shape differs from that of the first pass.
            ValueError: a value is outside [0, 1], or passes of another chip followed this chip.
            NonFiniteError: a probability is NaN or Inf.
        """
        check_probabilities(prob)
        if not self._chips:
            self._start(prob)
        if prob.shape != self._mean.shape:
            raise ShapeError(
                f"a pass has shape {tuple(prob.shape)}, the first had {tuple(self._mean.shape)}"
            )
        if not self._chips or chip != self._chips[-1]:
            self._next_chip(chip)
        self._reads_of[-1] += 1
        delta = prob - self._chip_mean
        self._chip_mean += delta / self._reads_of[-1]
        self._chip_squares += _over_classes(delta * (prob - self._chip_mean))
        self._entropy += entropy(prob)

    def maps(self) -> UncertaintyMaps:
        """Return the maps of all passes; no pass can be added afterwards.

        Raises:
            ValueError: there is no pass, or the chips have different numbers of reads.
        """
        if not self._chips:
            raise ValueError("no pass was added")
        self._close_chip()
        n_chips, n_reads = len(self._chips), self._reads_of[0]
        if len(set(self._reads_of)) > 1:
            raise ValueError(f"chips must have equally many reads, but have {self._reads_of}")
        total, within, between = self._components(n_chips, n_reads)
        return UncertaintyMaps(
            mean=_array(self._mean),
            entropy=_array(entropy(self._mean)),
            expected_entropy=_array(self._entropy / (n_chips * n_reads)),
            variance=_array(total),
            read_variance=_array(within),
            chip_variance=_array(between),
            n_chips=n_chips,
            n_reads=n_reads,
        )

    def _start(self, prob: Tensor) -> None:
        self._mean, self._chip_mean = torch.zeros_like(prob), torch.zeros_like(prob)
        self._entropy, self._chip_squares, self._within, self._between = (
            torch.zeros_like(prob[:, 0]) for _ in range(4)
        )

    def _next_chip(self, chip: object) -> None:
        if chip in self._chips:
            raise ValueError(f"chip {chip!r} comes again: add all reads of a chip in one go")
        if self._chips:
            self._close_chip()
        self._chips.append(chip)
        self._reads_of.append(0)
        self._chip_mean.zero_()
        self._chip_squares.zero_()

    def _close_chip(self) -> None:
        delta = self._chip_mean - self._mean
        self._mean += delta / len(self._chips)
        self._between += _over_classes(delta * (self._chip_mean - self._mean))
        self._within += self._chip_squares

    def _components(self, n_chips: int, n_reads: int) -> tuple[Tensor, Tensor, Tensor]:
        unknown = torch.full_like(self._within, torch.nan)
        within = self._within / (n_chips * (n_reads - 1)) if n_reads > 1 else unknown
        if n_chips == 1:
            return within, within, unknown
        means = self._between / (n_chips - 1)
        if n_reads == 1:
            return means, unknown, unknown
        between = means - within / n_reads
        return (within + between).clamp_min(0.0), within, between


def entropy(prob: Tensor) -> Tensor:
    """Return the entropy in nats, (N, *spatial), of (N, K, *spatial) probabilities; 0 ln 0 is 0."""
    if prob.shape[1] == 1:
        return torch.special.entr(prob[:, 0]) + torch.special.entr(1.0 - prob[:, 0])
    return torch.special.entr(prob).sum(1)


def check_probabilities(prob: Tensor | np.ndarray) -> None:
    """Check that an array contains probabilities of shape (N, K, *spatial).

    Raises:
        ShapeError: the array has fewer than three axes, or no voxel.
        NonFiniteError: a value is NaN or Inf.
        ValueError: a value is outside [0, 1], or the classes do not sum to 1.
    """
    values = torch.as_tensor(prob)
    if values.ndim < 3 or values.numel() == 0:
        raise ShapeError(
            f"probabilities have shape (N, K, *spatial), but these have {tuple(values.shape)}"
        )
    low, high = torch.aminmax(values)
    if not torch.isfinite(low + high):
        bad = int((~torch.isfinite(values)).sum())
        raise NonFiniteError(f"the probabilities hold {bad} NaN or Inf of {values.numel()} values")
    if low < 0 or high > 1:
        raise ValueError(
            f"probabilities lie in [0, 1], but these range from {float(low):.4g} to "
            f"{float(high):.4g}: put logits through positions() of the kind first"
        )
    if values.shape[1] > 1:
        worst = float((values.sum(1) - 1.0).abs().max())
        if worst > _SUM_SLACK:
            raise ValueError(f"probabilities of all classes must add up to 1, but miss by {worst}")


def _over_classes(squares: Tensor) -> Tensor:
    return squares[:, 0] if squares.shape[1] == 1 else 0.5 * squares.sum(1)


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy().copy()
