"""Coverage of the confidence intervals of analogmed.evaluation on simulated patients and chips.

    python experiments/interval_coverage.py [--repeats 300] [--document FILE]

A value on a chip is mean + patient + chip + residual. Patient effects are normal, or skewed to the
left as Dice is; the dominant component varies. A second simulation contains patients whose
structure is missed on all chips or on half of them. Writes three tables between the markers of the
document, and all settings as CSV files to a folder. Takes about ten minutes on one core.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from _programs import write_table

from analogmed.evaluation.statistics.intervals import Interval, difference, ratio, two_way_bootstrap
from analogmed.evaluation.statistics.spread import std_between_chips
from analogmed.evaluation.statistics.stopping import enough
from analogmed.foundation.files import write_text_atomically
from analogmed.report.text_table import pipe_table, replace_between

CASES, CHIPS = (5, 10, 20, 100), (2, 3, 5, 10, 20)
STDS = {  # standard deviations of patients, chips and residual
    "patients": (0.10, 0.01, 0.02),
    "both": (0.05, 0.05, 0.025),
    "chips": (0.02, 0.05, 0.02),
    "residual": (0.02, 0.01, 0.10),
}
SHAPES = ("normal", "skewed")
QUANTITIES = ("percentile", "mean", "difference", "ratio", "std")
HEADS = {
    "percentile": "mean, plain percentiles",
    "mean": "mean",
    "difference": "difference of two networks",
    "ratio": "ratio to digital",
    "std": "std between chips",
}
MEAN, OTHER, DIGITAL = 0.80, 0.75, 0.85
SKEWED_SHAPE = 0.5  # shape of a gamma distribution: skewness -2.8
MIN_CHIPS, BUDGET = (3, 5, 8), 40

MISSED_CASES, MISSED_CHIPS = (7, 10, 20, 40), (5, 10)
MISSED = {  # shares of the patients, and of the chips on which the structure is missed
    "none": (0.0, 1.0),
    "3 % on all chips": (0.03, 1.0),
    "10 % on all chips": (0.10, 1.0),
    "12 % on half of the chips": (0.12, 0.5),
}
OF_MISSED = {
    "dice": "Dice",
    "drop": "drop against digital",
    "ratio": "ratio to digital",
    "hd95": "HD95 (px)",
}
ON_CHIP, DISTANCE, DIAGONAL = 0.84, 3.0, 400.0


def main() -> None:
    """Simulate, then print and write the tables."""
    given = _arguments()
    fixed = fixed_size(given.repeats, given.n_boot)
    stopped = stopped_early(given.repeats, given.n_boot)
    missed = with_missed(given.repeats, given.n_boot)
    tables = {
        "coverage": _fixed_text(fixed),
        "missed": _missed_text(missed),
        "stopping": _stopped_text(stopped),
    }
    if given.document:
        text = given.document.read_text(encoding="utf-8")
        for name, table in tables.items():
            text = replace_between(text, name, table)
        write_text_atomically(given.document, text)
    if given.out:
        write_table(given.out, "coverage", fixed)
        write_table(given.out, "missed", missed)
        write_table(given.out, "stopping", stopped)
    print("\n\n".join(tables.values()))


def fixed_size(repeats: int, n_boot: int, seed: int = 0) -> pd.DataFrame:
    """Return the coverage of each quantity by number of cases and chips, components and shape."""
    rows = []
    for n, m, (parts, stds), shape in itertools.product(CASES, CHIPS, STDS.items(), SHAPES):
        generator = np.random.default_rng([seed, n, m, len(parts), len(shape)])
        held = np.zeros(len(QUANTITIES))
        for _ in range(repeats):
            held += [_holds(*pair) for pair in intervals(generator, n, m, stds, shape, n_boot)]
        row = {"cases": n, "chips": m, "dominant": parts, "patients": shape}
        rows.append(row | dict(zip(QUANTITIES, held / repeats, strict=True)))
    return pd.DataFrame(rows)


def intervals(
    generator: np.random.Generator,
    n: int,
    m: int,
    stds: tuple[float, float, float],
    shape: str,
    n_boot: int,
) -> list[tuple[Interval, float]]:
    """Return the intervals of one simulated evaluation with true values, in QUANTITIES order."""
    patient_std, chip_std, residual_std = stds
    own, shared, other = patient_std * patients_of(generator, (3, n, 1), shape)
    value = MEAN + own + on_chips(generator, n, m, stds)
    rival = OTHER + (own + other) + on_chips(generator, n, m, stds)
    digital = (DIGITAL + own + 0.5 * shared)[:, 0]
    settings = {"patients": range(n), "n_boot": n_boot}
    spread = float(np.hypot(chip_std, residual_std / np.sqrt(n)))
    sets = ("value", "rival")
    return [
        (percentile(generator, value, n_boot), MEAN),
        (two_way_bootstrap(value, **settings), MEAN),
        (
            two_way_bootstrap(value, rival, statistic=difference, chip_sets=sets, **settings),
            MEAN - OTHER,
        ),
        (two_way_bootstrap(value, digital, statistic=ratio, **settings), MEAN / DIGITAL),
        (std_between_chips(value, patients=range(n)), spread),
    ]


def patients_of(generator: np.random.Generator, size: tuple[int, ...], shape: str) -> np.ndarray:
    """Return effects with mean 0 and standard deviation 1."""
    if shape == "normal":
        return generator.normal(size=size)
    drawn = generator.gamma(SKEWED_SHAPE, size=size)
    return -(drawn - SKEWED_SHAPE) / np.sqrt(SKEWED_SHAPE)


def on_chips(
    generator: np.random.Generator, n: int, m: int, stds: tuple[float, float, float]
) -> np.ndarray:
    """Return effects of m chips plus residuals of n cases on them."""
    return stds[1] * generator.normal(size=(1, m)) + stds[2] * generator.normal(size=(n, m))


def percentile(generator: np.random.Generator, values: np.ndarray, n_boot: int) -> Interval:
    """Return the percentile interval of a bootstrap of both axes at once, for comparison."""
    n, m = values.shape
    rows = generator.multinomial(n, np.full(n, 1 / n), size=n_boot) / n
    columns = generator.multinomial(m, np.full(m, 1 / m), size=n_boot) / m
    low, high = np.percentile(((rows @ values) * columns).sum(axis=1), [2.5, 97.5])
    return Interval(values.mean(), low, high, n, m)


def with_missed(repeats: int, n_boot: int, seed: int = 2) -> pd.DataFrame:
    """Return coverage and median width where structures are missed, per setting and quantity.

    ``coverage_seen`` and ``width_seen`` refer to the evaluations in which at least one structure is
    missed.
    """
    rows = []
    sizes = itertools.product(MISSED_CASES, MISSED_CHIPS)
    for (name, shares), (n, m) in itertools.product(MISSED.items(), sizes):
        generator = np.random.default_rng([seed, n, m, round(100 * shares[0])])
        seen = np.zeros(repeats, dtype=bool)
        held, widths = np.zeros((2, len(OF_MISSED), repeats))
        for k in range(repeats):
            seen[k], found = missed_intervals(generator, n, m, shares, n_boot)
            held[:, k] = [_holds(*pair) for pair in found]
            widths[:, k] = [interval.high - interval.low for interval, _ in found]
        for quantity, of_held, of_widths in zip(OF_MISSED, held, widths, strict=True):
            row = {"missed": name, "cases": n, "chips": m, "quantity": quantity}
            row |= {"coverage": of_held.mean(), "width": np.median(of_widths), "seen": seen.mean()}
            if seen.any():
                row["coverage_seen"] = of_held[seen].mean()
                row["width_seen"] = np.median(of_widths[seen])
            rows.append(row)
    return pd.DataFrame(rows)


def missed_intervals(
    generator: np.random.Generator, n: int, m: int, shares: tuple[float, float], n_boot: int
) -> tuple[bool, list[tuple[Interval, float]]]:
    """Return whether a structure is missed, and intervals with true values in OF_MISSED order.

    A missed structure has a Dice of 0; its HD95 is the diagonal of the image.
    """
    of_patients, of_chips = shares
    own, other, far = 0.04 * generator.normal(size=(3, n))
    digital = DIGITAL + own
    value = ON_CHIP + (own + 0.5 * other)[:, None] + on_chips(generator, n, m, (0.0, 0.01, 0.02))
    distance = DISTANCE + 25.0 * far[:, None] + on_chips(generator, n, m, (0.0, 0.2, 0.5))
    missed = (generator.random((n, 1)) < of_patients) & (generator.random((n, m)) < of_chips)
    value, distance = np.where(missed, 0.0, value), np.where(missed, DIAGONAL, distance)
    gone = of_patients * of_chips
    mean = ON_CHIP * (1.0 - gone)
    settings = {"patients": range(n), "n_boot": n_boot}
    drop = two_way_bootstrap(digital, value, statistic=difference, bounds=(-1.0, 1.0), **settings)
    kept = two_way_bootstrap(value, digital, statistic=ratio, bounds=(0.0, np.inf), **settings)
    return bool(missed.any()), [
        (two_way_bootstrap(value, bounds=(0.0, 1.0), **settings), mean),
        (drop, DIGITAL - mean),
        (kept, mean / DIGITAL),
        (
            two_way_bootstrap(distance, bounds=(0.0, np.inf), **settings),
            DISTANCE * (1.0 - gone) + DIAGONAL * gone,
        ),
    ]


def stopped_early(repeats: int, n_boot: int, seed: int = 1) -> pd.DataFrame:
    """Return the coverage at the stopping time, by target width and minimum number of chips."""
    rows = []
    for min_chips, factor in itertools.product(MIN_CHIPS, (1.2, 1.5, 2.0)):
        generator = np.random.default_rng([seed, min_chips, round(10 * factor)])
        n, stds = 20, STDS["chips"]
        width = factor * 4.0 * stds[1] / np.sqrt(20)
        held, used = 0, []
        for _ in range(repeats):
            effects = stds[0] * patients_of(generator, (n, 1), "normal")
            values = MEAN + effects + on_chips(generator, n, BUDGET, stds)
            for m in range(2, BUDGET + 1):
                decision = enough(
                    values[:, :m], width, min_chips=min_chips, max_chips=BUDGET, n_boot=n_boot
                )
                if decision:
                    break
            held += _holds(decision.interval, MEAN)
            used.append(m)
        row = {"min_chips": min_chips, "width": width, "coverage": held / repeats}
        rows.append(row | {"chips_mean": float(np.mean(used)), "chips_least": min(used)})
    return pd.DataFrame(rows)


def _holds(interval: Interval, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


def _fixed_text(table: pd.DataFrame) -> str:
    """Return the coverage range over the dominant components: normal, then skewed patients."""
    heads = ["cases x chips", *(HEADS[name] for name in QUANTITIES)]
    lines = []
    for (n, m), rows in table.groupby(["cases", "chips"]):
        cells = []
        for name in QUANTITIES:
            ranges = rows.groupby("patients")[name].agg(["min", "max"])
            cells.append("; ".join(f"{low:.2f} to {high:.2f}" for low, high in ranges.to_numpy()))
        lines.append([f"{n} x {m}", *cells])
    return pipe_table(heads, lines, len(heads))


def _missed_text(table: pd.DataFrame) -> str:
    heads = ["missed", "cases x chips", "evaluations that show it", *OF_MISSED.values()]
    lines = []
    for (name, n, m), rows in table.groupby(["missed", "cases", "chips"], sort=False):
        cells = [str(name), f"{n} x {m}", f"{rows['seen'].iloc[0]:.2f}"]
        for row in rows.to_dict("records"):
            digits = 1 if row["quantity"] == "hd95" else 3
            cell = f"{row['coverage']:.2f}, {row['width']:.{digits}f}"
            if row["seen"] > 0.0:
                cell += f" ({row['coverage_seen']:.2f}, {row['width_seen']:.{digits}f})"
            cells.append(cell)
        lines.append(cells)
    return pipe_table(heads, lines, len(heads))


def _stopped_text(table: pd.DataFrame) -> str:
    heads = ["minimum of chips", "requested width", "coverage at the stop", "chips used, mean"]
    lines = []
    for row in table.to_dict("records"):
        cells = [f"{row['min_chips']}", f"{row['width']:.3f}"]
        lines.append([*cells, f"{row['coverage']:.2f}", f"{row['chips_mean']:.1f}"])
    return pipe_table(heads, lines, len(heads))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--n-boot", type=int, default=300)
    parser.add_argument("--document", type=Path, help="Markdown file with the markers")
    parser.add_argument("--out", type=Path, help="folder for the whole tables as CSV")
    return parser.parse_args()


if __name__ == "__main__":
    main()
