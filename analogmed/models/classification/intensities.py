"""Distribution of the intensities of each pixel over images, and its quantisation."""

from collections.abc import Iterable

import numpy as np

from analogmed.foundation.errors import ConfigError

LEVELS = 256
"""Grey levels of a pixel."""
_STEPS_PER_PROTOTYPE = 125
"""Training steps of the self-organising map for each of its prototypes."""


def count_levels(images: Iterable[np.ndarray], pixels: int) -> np.ndarray:
    """Return how often each pixel has each grey level, int64 (pixels, LEVELS).

    Args:
        images: grey levels of one image each, integers from 0 to 255, ``pixels`` values each.
        pixels: number of pixels of an image.
    """
    counts = np.zeros((pixels, LEVELS), dtype=np.int64)
    rows = np.arange(pixels)
    for image in images:
        counts[rows, image.ravel()] += 1
    return counts


def densities(counts: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return the density of the grey levels of each pixel, float64 (pixels, LEVELS).

    Each row is a Gaussian kernel density estimate at the grey levels, with the sum 1.

    Args:
        counts: result of :func:`count_levels`, with one image or more.
        bandwidth: standard deviation of the kernel, in grey levels, above 0.
    """
    levels = np.arange(LEVELS)
    kernel = np.exp(-0.5 * ((levels[:, None] - levels) / bandwidth) ** 2)
    smooth = counts @ kernel
    result: np.ndarray = smooth / smooth.sum(axis=1, keepdims=True)
    return result


def quantise(rows: np.ndarray, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return prototypes of rows from a self-organising map, and the nearest one of each row.

    Args:
        rows: vectors, shape (n, k).
        side: number of prototypes along both axes of the map.
        seed: seed of the map, which determines its result.

    Returns:
        prototypes, shape (side * side, k), which are convex combinations of rows; and the index of
        the nearest one for each row, shape (n,).

    Raises:
        ConfigError: the package minisom is not installed.
    """
    try:
        from minisom import MiniSom
    except ImportError as error:
        raise ConfigError(
            "region_of_interest: its self-organising map needs the package minisom; install it "
            "with pip install 'analogmed[roi]'"
        ) from error

    network = MiniSom(
        side, side, rows.shape[1], sigma=1.0, learning_rate=0.5, random_seed=seed % 2**32
    )
    network.random_weights_init(rows)
    network.train(rows, _STEPS_PER_PROTOTYPE * side**2, random_order=True)
    prototypes = network.get_weights().reshape(side**2, -1)
    nearest = ((rows**2).sum(1, keepdims=True) - 2 * rows @ prototypes.T) + (prototypes**2).sum(1)
    return prototypes, nearest.argmin(axis=1)
