"""Isotropic against pyramidal networks in the benchmark table, paired by block pattern.

    python experiments/isotropic_in_table.py [--table medbench.parquet]

The table contains every block pattern with equal channels on all levels (8, 8, 8), and as a pyramid
with about the same number of weights (4, 8, 16). Differences are means over patterns, with a
bootstrap interval over patterns. Patterns for which one of the networks has not learned the task
(digital Dice below 0.5) are excluded and counted.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _programs import markdown, with_interval

from analogmed.metrics.overlap import DICE
from analogmed.models import Genotype
from analogmed.search.benchmark.table import BenchmarkTable, load

CHANNELS = {"isotropic": (8, 8, 8), "pyramidal": (4, 8, 16)}
TRAININGS = {"digital": "digital", "hwa": "hardware-aware"}
DIFFERENCES = {
    "dice_digital": "Dice digital",
    "dice_1d": "Dice after a day",
    "drop after a day": "Dice drop after a day",
}
N_BOOT = 10_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="by default the shipped one")
    print(table(load(parser.parse_args().table)))


def table(bench: BenchmarkTable) -> str:
    """Return the differences, isotropic minus pyramidal, in Markdown."""
    return markdown(pd.DataFrame(compared(bench, training) for training in TRAININGS))


def compared(bench: BenchmarkTable, training: str) -> dict[str, object]:
    """Return the difference, isotropic minus pyramidal, for three levels and one training."""
    networks = bench.networks("phantom_brain", training=training)
    networks["drop after a day"] = networks["dice_digital"] - networks["dice_1d"]
    described = [_described(Genotype.of(genotype)) for genotype in networks["genotype"]]
    networks[["blocks", "shape"]] = pd.DataFrame(described, index=networks.index)
    pairs = networks.dropna(subset="shape").pivot(index="blocks", columns="shape")
    known = pairs[(pairs["dice_digital"][[*CHANNELS]] >= DICE.learned).all(axis=1)]
    row: dict[str, object] = {
        "training": TRAININGS[training],
        "patterns": f"{len(known)} of {len(pairs)}",
    }
    for shape in CHANNELS:
        row[f"weights, {shape}"] = f"{known['parameters'][shape].mean():,.0f}"
    for name, head in DIFFERENCES.items():
        row[head] = _difference(known[name])
    return row


def _described(genotype: Genotype) -> tuple[str, str | None]:
    """Return the blocks, and the shape that the channels have, ``None`` for any other."""
    levels = genotype.levels[: genotype.depth]
    channels = tuple(level.channels for level in levels)
    shape = next((name for name, of_levels in CHANNELS.items() if of_levels == channels), None)
    return "-".join(level.block for level in levels), shape


def _difference(values: pd.DataFrame) -> str:
    differences = (values["isotropic"] - values["pyramidal"]).to_numpy()
    generator = np.random.default_rng(0)
    drawn = generator.choice(differences, (N_BOOT, len(differences))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return with_interval(differences.mean(), low, high, "+.3f")


if __name__ == "__main__":
    main()
