"""Input vectors of a row of tiles: location in a feature map, and scaling."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from aihwkit.simulator.parameters.enums import NoiseManagementType
from aihwkit.simulator.parameters.io import IOParameters

PIECE = 16
"""Number of values that a compiled pass processes at once."""


@dataclass(frozen=True)
class KernelWindow:
    """Window of pixels that forms one input vector; a single pixel by default.

    Attributes:
        kernel: size of the window, one number per axis.
        stride: distance from one window to the next.
        dilation: distance from one pixel of a window to the next.
        padding: number of zeros before the first pixel and after the last one.
    """

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("kernel", "stride", "dilation", "padding"):
            values = tuple(getattr(self, name))
            missing = (0 if name == "padding" else 1,) * (3 - len(values))
            object.__setattr__(self, name, missing + values)

    def positions(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of windows along each of the three axes of a map."""
        return tuple(
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                sizes, self.kernel, self.stride, self.dilation, strict=True
            )
        )

    def channels(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return, per pixel of the window, the channels [first, last) of the rows [start, stop).

        Row c * pixels + k of a crossbar corresponds to channel c of pixel k.
        """
        pixels = math.prod(self.kernel)
        return [(-((k - start) // pixels), -((k - stop) // pixels)) for k in range(pixels)]

    def order(self, start: int, stop: int) -> np.ndarray:
        """Return the rows [start, stop), counted from ``start``, in vector order (by pixels)."""
        pixels = math.prod(self.kernel)
        rows = [
            np.arange(first, last) * pixels + pixel - start
            for pixel, (first, last) in enumerate(self.channels(start, stop))
        ]
        return np.concatenate(rows)


@dataclass(frozen=True)
class VectorMap:
    """Location of the vectors of a row of tiles in a channels-last map, in elements.

    Attributes:
        positions: number of vectors of one group in one entry of the batch, along three axes.
        groups: number of groups of channels; each has a vector at each position.
        steps: distance from one vector to the next along the batch, three axes, and the groups.
        runs: adjacent values of a vector, shape (runs, 2): offset from its start, length.
    """

    positions: tuple[int, ...]
    groups: int
    steps: tuple[int, ...]
    runs: np.ndarray

    @classmethod
    def of(
        cls, patch: KernelWindow, rows: tuple[int, int], sizes: tuple[int, ...], groups: int
    ) -> "VectorMap":
        """Return the vectors of the rows [start, stop) of a layer's crossbar.

        Args:
            patch: window of the layer.
            rows: start and stop.
            sizes: shape of the map, (B, depth, height, width, channels).
            groups: number of groups of channels.
        """
        strides = [math.prod(sizes[axis + 1 :]) for axis in range(5)]
        pixels = np.indices(patch.kernel).reshape(3, -1).T * patch.dilation @ strides[1:4]
        spans = np.array(patch.channels(*rows))
        runs = np.stack([pixels + spans[:, 0], spans[:, 1] - spans[:, 0]], 1)
        steps = [a * b for a, b in zip(strides[1:4], patch.stride, strict=True)]
        return cls(
            patch.positions(sizes[1:4]),
            groups,
            (strides[0], *steps, sizes[4] // groups),
            _joined(runs[runs[:, 1] > 0].astype(np.int64)),
        )

    @cached_property
    def pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """Runs in pieces of ``PIECE`` values, and their remainders.

        Returns:
            int64 (pieces, 2): offset from the start of a vector and position in it; and (rests, 3):
            these two and the length.
        """
        places = np.cumsum(self.runs[:, 1]) - self.runs[:, 1]
        whole, rest = [], []
        for (offset, length), place in zip(self.runs.tolist(), places.tolist(), strict=True):
            done = length - length % PIECE
            whole += [(offset + begin, place + begin) for begin in range(0, done, PIECE)]
            if done < length:
                rest.append((offset + done, place + done, length - done))
        return np.array(whole, np.int64).reshape(-1, 2), np.array(rest, np.int64).reshape(-1, 3)


def _joined(runs: np.ndarray) -> np.ndarray:
    """Merge runs that are adjacent in memory."""
    begins = np.append(True, runs[1:, 0] != runs[:-1].sum(1))
    lengths = np.add.reduceat(runs[:, 1], np.flatnonzero(begins))
    return np.ascontiguousarray(np.stack([runs[begins, 0], lengths], 1))


@dataclass(frozen=True)
class Scaling:
    """Size of an input vector, by which the vector is divided.

    Attributes:
        kind: kind of noise management, one that the vector engine supports; vectors have the size
            ``unit`` if the kind measures none.
        limit: limit to which values are clamped first; inf for no limit.
        threshold: largest size; inf for none.
        unit: size of vectors without a measured size. A vector of zeros has size 0, so that its
            output is 0, if the kind measures sizes.
    """

    kind: NoiseManagementType
    limit: float
    threshold: float
    unit: float

    @classmethod
    def of(cls, io: IOParameters, input_range: float | None) -> "Scaling":
        """Return the scaling of a tile with these parameters and this input range, if any."""
        unit = 1.0 if input_range is None else abs(input_range)
        limit = math.inf if input_range is None else unit
        capped = io.nm_thres > 0
        threshold = io.nm_thres * unit if capped else math.inf
        if io.noise_management is NoiseManagementType.CONSTANT and capped:
            unit = threshold
        return cls(io.noise_management, limit, threshold, unit)
