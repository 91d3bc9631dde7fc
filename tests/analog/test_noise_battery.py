"""Normality and independence of the compiled engine's noise at the output of a layer.

Truly normal samples exceed a bound about once in a million runs; seeds are fixed. The order in
which the engine stores its samples in memory does not matter here.
"""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from analogmed.analog import Chip, convert, create_rpu_config
from analogmed.analog.engines.cpu.kernels.noise import BLOCK, PHILOX_ROUNDS

FALSE_ALARM = 1e-6
COLUMNS = 1024


class Products(nn.Module):
    """Layers whose weights are zero, so that noise is all that they put out; one may come twice."""

    def __init__(self, layers: int, uses: int, rows: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(rows, COLUMNS, bias=False) for _ in range(layers))
        self.uses = uses
        for layer in self.layers:
            nn.init.zeros_(layer.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack([layer(inputs) for layer in [*self.layers] * self.uses])


def reading_of(*, layers: int = 1, uses: int = 1, rows: int = 1, seed: int = 0, read: int = 0):
    """A chip whose output noise has a deviation of 1 on each row of tiles."""
    hardware = {"tile_size": (1, COLUMNS), "out_noise": 1.0, "input_range": False}
    config = create_rpu_config("ideal", perfect=False, out_bound=1e30, **hardware)
    model = convert(Products(layers, uses, rows).eval(), config, backend="numba")
    return Chip(model, seed=seed).at(0.0, read)


def draw(reading, size: int, *, key: int | None = None, samples: int = 1) -> np.ndarray:
    """Noise of the forward after a restart, shape (layers and uses, samples, size)."""
    reading.restart("case")
    for layer in reading.readings.values():
        if key is not None:
            layer.stream.restart(key)
    rows = next(iter(reading.readings.values())).rows
    return reading(torch.zeros(samples, size // COLUMNS, len(rows))).flatten(2).numpy()


def normals(size: int, *, key: int = 1) -> np.ndarray:
    return draw(reading_of(), size, key=key)[0, 0]


def z_limit(comparisons: int) -> float:
    """Bound on the largest of so many standard normal statistics."""
    return float(stats.norm.isf(FALSE_ALARM / comparisons / 2))


@pytest.mark.slow
def test_moments_shares_and_tails_are_those_of_the_normal_distribution():
    reading, bins, reach = reading_of(), 256, 7
    sums, shares = np.zeros(4), np.zeros(2 * reach * bins)
    for key in range(72):  # 3e8 draws
        z = draw(reading, 1 << 22, key=key)[0, 0].astype(np.float64)
        sums += [z.sum(), z @ z, (z * z) @ z, (z * z) @ (z * z)]
        bin_of = np.floor(z * bins).astype(np.int64) + reach * bins
        shares += np.bincount(bin_of, minlength=len(shares))
    count = shares.sum()
    deviations = np.sqrt(np.array([1, 2, 15, 96]) / count)  # of the mean powers, closed forms
    assert np.all(np.abs(sums / count - [0, 1, 0, 3]) < z_limit(4) * deviations)
    edges = np.arange(-reach * bins, reach * bins + 1) / bins
    expected = count * np.diff(stats.norm.cdf(edges))
    common = expected > 50
    chi_square = ((shares - expected)[common] ** 2 / expected[common]).sum()
    assert stats.chi2.sf(chi_square, common.sum()) > FALSE_ALARM
    assert stats.chi2.cdf(chi_square, common.sum()) > FALSE_ALARM  # nor too even
    for sigma in (3.0, 3.5, 4.0, 4.5, 5.0, 5.5):
        for found in (shares[edges[:-1] >= sigma].sum(), shares[edges[1:] <= -sigma].sum()):
            below = stats.poisson.cdf(found, count * stats.norm.sf(sigma))
            assert FALSE_ALARM < below < 1 - FALSE_ALARM, (sigma, found)


def test_the_distribution_is_normal_by_kolmogorov_and_smirnov():
    assert stats.kstest(normals(1 << 22, key=77), stats.norm.cdf).pvalue > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("lag", [1 << power for power in range(14)])
def test_angle_and_radius_of_two_draws_are_independent(lag):
    """Box and Muller's method makes draws in pairs, which lie a power of two apart."""
    pairs = normals(1 << 22, key=lag).reshape(-1, 2, lag).astype(np.float64)
    left, right = pairs[:, 0].ravel(), pairs[:, 1].ravel()
    angle = np.arctan2(left, right) / (2 * np.pi) + 0.5  # uniform in [0, 1]
    radius = np.exp(-(left**2 + right**2) / 2)  # uniform in [0, 1]
    table = np.histogram2d(angle, radius, bins=32, range=[[0, 1], [0, 1]])[0]
    chance = stats.chisquare(table.ravel()).pvalue
    assert FALSE_ALARM < chance < 1 - FALSE_ALARM


def test_draws_of_one_product_are_not_correlated_at_any_distance():
    z = normals(1 << 22, key=5)
    for values in (z, (z**2 - 1) / 2**0.5):
        highest = np.abs(correlations(values, values)[1:]).max()
        assert highest < z_limit(len(z) // 2)


def test_draws_at_different_addresses_are_not_correlated_at_any_shift():
    """Shifts too: overlapping runs of counters would show as the same noise further on."""
    streams = streams_at_different_addresses(1 << 16)
    pairs = list(itertools.combinations(streams, 2))
    for one, other in pairs:
        for power in (1, 2):
            left, right = (z**power - (power - 1) for z in (one, other))
            highest = np.abs(correlations(left, right)).max()
            assert highest < z_limit(2 * len(pairs) * len(one))


def correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """At each circular shift, in standard deviations of what independent draws have."""
    product = np.fft.rfft(left.astype(np.float64)).conj() * np.fft.rfft(right.astype(np.float64))
    spread = np.sqrt(len(left)) * left.std() * right.std()
    return np.fft.irfft(product, len(left)) / spread


def streams_at_different_addresses(size: int) -> list[np.ndarray]:
    """Neighbouring keys, samples, uses, rows of tiles, layers, reads and chips."""
    one_row = reading_of()
    streams = [draw(one_row, size, key=key)[0, 0] for key in (2, 3, 2 + 2**32, 2**33 + 2)]
    base = draw(one_row, size, key=1, samples=3)[0]
    streams += [*base]
    streams.append(draw(reading_of(uses=2), size, key=1)[1, 0])
    two, three = (draw(reading_of(rows=rows), size, key=1)[0, 0] for rows in (2, 3))
    streams += [two - base[0], three - two]  # the second and the third row alone
    streams += [*draw(reading_of(layers=2), size)[:, 0]]
    streams.append(draw(reading_of(read=1), size)[0, 0])
    streams.append(draw(reading_of(seed=1), size)[0, 0])
    return streams


def test_no_run_of_draws_comes_twice():
    streams = np.stack(streams_at_different_addresses(1 << 18))
    runs = streams.astype(np.float32).reshape(-1, 8)  # of 16 and more bits each, at random
    assert len(np.unique(runs, axis=0)) == len(runs)


def philox(counters: np.ndarray, key: int, rounds: int) -> np.ndarray:
    """Philox 4x32 in plain numpy (Salmon et al. 2011): counters (4, n) to words (4, n)."""
    c0, c1, c2, c3 = counters.astype(np.uint64)
    low, k0, k1 = np.uint64(2**32 - 1), key % 2**32, key >> 32
    for _ in range(rounds):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & low
        c2, c3 = (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3])


PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0_A4093822


@pytest.mark.parametrize(
    ("rounds", "counter", "key", "expected"),
    [
        (7, (0,) * 4, 0, "5f6fb709 0d893f64 4f121f81 4f730a48"),
        (7, (2**32 - 1,) * 4, 2**64 - 1, "5207ddc2 45165e59 4d8ee751 8c52f662"),
        (7, *PI, "4dfccaba 190a87f0 c47362ba b6b5242a"),
        (10, (0,) * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (10, (2**32 - 1,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (10, *PI, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_in_numpy_gives_the_known_answers_of_random123(rounds, counter, key, expected):
    words = philox(np.array(counter)[:, None], key, rounds)[:, 0]
    assert " ".join(f"{word:08x}" for word in words) == expected


@pytest.mark.parametrize("key", [0, 1, 2**32, 0x299F31D0_A4093822])
@pytest.mark.parametrize("sample", [0, 2])
@pytest.mark.parametrize("use", [0, 1])
def test_the_noise_of_a_layer_is_philox_of_its_address(key, sample, use):
    """Words 0 and 2 of a counter, and 1 and 3, are radius and angle of two normals.

    They lie half a block apart. Which of the eight directions of an angle is taken is left open.
    """
    block = BLOCK
    found = draw(reading_of(uses=2), 4 * block, key=key, samples=3)[use, sample]
    one, other = found.astype(np.float64).reshape(-1, 2, block // 2).swapaxes(0, 1)
    counters = np.stack([np.arange(block), *np.full((3, block), [[sample], [use], [0]])])
    words = philox(counters, key, PHILOX_ROUNDS).astype(np.int64).reshape(4, -1, block // 4)
    first, second = words.swapaxes(0, 1).reshape(-1, 2, block // 2).swapaxes(0, 1)
    radius = np.sqrt(-2 * np.log((first + 0.5) / 2**32))
    angle = np.abs((second + 2**29) % 2**30 - 2**29) * (np.pi / 2) / 2**30  # from an axis
    assert np.abs(np.hypot(one, other) - radius).max() < 2e-5
    folded = np.arctan2(*np.sort(np.abs([one, other]), axis=0))
    assert np.abs(folded - angle)[radius > 1e-3].max() < 1e-6
