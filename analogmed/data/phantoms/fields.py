"""Building blocks of phantoms: grids, smooth random fields, signed distances, soft painting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage, special

_TINY = np.float32(1e-12)


@dataclass(frozen=True)
class Grid:
    """A regular grid centred on its origin.

    Attributes:
        shape: number of points along each axis.
        spacing_mm: distance between adjacent points (pixels for phantoms without physical size).
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]

    def coordinates(self) -> list[np.ndarray]:
        """Return the position along each axis in mm, float32, broadcastable over the grid."""
        axes = [
            (np.arange(count, dtype=np.float32) - (count - 1) / 2) * np.float32(spacing)
            for count, spacing in zip(self.shape, self.spacing_mm, strict=True)
        ]
        return list(np.meshgrid(*axes, indexing="ij", sparse=True))

    def noise(self, rng: np.random.Generator, wavelength_mm: float) -> np.ndarray:
        """Return a smooth Gaussian random field of mean 0 and standard deviation 1, float32.

        Args:
            rng: random number generator.
            wavelength_mm: shortest wavelength; all longer ones have the same power.
        """
        knots = [
            max(3, 2 * round(count * spacing / wavelength_mm) + 2)
            for count, spacing in zip(self.shape, self.spacing_mm, strict=True)
        ]
        field = rng.standard_normal(knots).astype(np.float32)
        for count, knot in zip(self.shape, knots, strict=True):
            # Axis 0 becomes the last axis each time; one round restores the original order.
            field = np.einsum("k...,nk->...n", field, _spline_weights(count, knot))
        return np.ascontiguousarray(field)


@lru_cache(maxsize=256)
def _spline_weights(count: int, knots: int) -> np.ndarray:
    """Return a cubic interpolation matrix (count, knots) from ``knots`` values to ``count``.

    The scale preserves the variance of independent values of variance 1, averaged over the points.
    """
    identity = np.eye(knots, dtype=np.float32)
    weights = ndimage.zoom(identity, (count / knots, 1), order=3, mode="nearest")
    return weights / np.sqrt(np.mean(np.sum(weights**2, axis=1)))


def ellipsoid(
    position: Sequence[np.ndarray], centre: Iterable[float], radii: Iterable[float]
) -> np.ndarray:
    """Return the signed distance to an ellipsoid to first order, negative inside.

    Args:
        position: coordinates along each axis, broadcastable arrays.
        centre: centre of the ellipsoid, one value per axis.
        radii: half axes.

    Returns:
        float32 field in the unit of the coordinates.
    """
    half_axes = [np.float32(radius) for radius in radii]
    # The tiny terms yield the limit at the centre, minus the smallest radius, instead of 0 / 0.
    by_radius: np.ndarray | np.float32 = _TINY
    by_square: np.ndarray | np.float32 = _TINY / min(half_axes) ** 2
    for x, middle, radius in zip(position, centre, half_axes, strict=True):
        scaled = (x - np.float32(middle)) / radius
        by_radius = by_radius + scaled**2
        by_square = by_square + (scaled / radius) ** 2
    length = np.sqrt(by_radius)
    return np.asarray(length * (length - 1) / np.sqrt(by_square))


def rotated(x: np.ndarray, y: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates in a frame rotated by an angle."""
    cos, sin = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    return cos * x + sin * y, cos * y - sin * x


def paint(
    image: np.ndarray, distance: np.ndarray, value: np.ndarray | float, softness: float
) -> None:
    """Blend ``value`` into ``image`` where ``distance`` is negative, in place.

    Args:
        image: float32 image of any shape to which ``distance`` and ``value`` broadcast.
        distance: signed distance to the structure, negative inside.
        value: intensity of the structure.
        softness: width of the blended border (partial volume), in the unit of ``distance``.
    """
    image += special.expit(-distance / np.float32(softness)) * (value - image)


def rician(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Return the magnitude of a complex image with Gaussian noise in both parts, as in MRI."""
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.hypot(real, imaginary)
