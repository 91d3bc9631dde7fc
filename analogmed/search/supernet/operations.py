"""What each option of each gene is worth, by the networks of a supernetwork that have it."""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from weakref import ReferenceType, ref

import numpy as np
import pandas as pd

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.seeds import derive_seed
from analogmed.models import Genotype
from analogmed.report.figures.importance import importance_heat_map
from analogmed.search.space.choices import Option, Options
from analogmed.search.space.space import Gene, Space
from analogmed.search.supernet.importance import PARTS, block_importance, mean_of_level
from analogmed.search.supernet.weights import SharedWeights, Weights, alive, weights_of
from analogmed.tables.results import write_table

FIGURE = "figures/importance.png"
"""Path of the figure in a run folder."""

_logger = logging.getLogger("analogmed.search")
_COUNTED_NETWORKS = 8
_FLOOR = 0.01
_LEAST = 1e-9


def networks_with(
    genes: Options, space: Space, *, n: int, seed: int
) -> dict[Option, tuple[Genotype, ...]]:
    """Networks that have an option, for every option that there is a choice of.

    The networks of two options differ in that gene alone (common random numbers); where a level is
    looked at that a network does not have, it gets more levels.

    Args:
        genes: options of each gene, all of them or those that are left.
        space: of the networks.
        n: networks of each option.
        seed: of their draw.

    Raises:
        ConfigError: fewer than one network.
    """
    if n < 1:
        raise ConfigError(f"n: expected 1 network or more of each option, found {n!r}")
    generator = np.random.default_rng(derive_seed(seed, "operations"))
    drawn = [
        {name: options[int(generator.integers(len(options)))] for name, options in genes.items()}
        for _ in range(n)
    ]
    found: dict[Option, tuple[Genotype, ...]] = {}
    for name, options in genes.items():
        deep = [depth for depth in genes["depth"] if int(depth) > level_of(name)]
        for option in options if len(options) > 1 and deep else ():
            networks = []
            for number, each in enumerate(drawn):
                changed = each | {name: option}
                if int(changed["depth"]) <= level_of(name):
                    changed["depth"] = deep[number % len(deep)]
                networks.append(space.decode(changed))
            found[name, option] = tuple(networks)
    return found


def operation_scores(
    weights: Weights,
    count: Callable[[Genotype], Mapping[str, float]],
    *,
    n: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """``importance * mean score / latency`` of each option of each gene.

    The importance of a block is its level's, in the mean over the networks that have it, as a share
    of that of all blocks of the level; its latency is what the supernetwork's training went by.
    Options of the other genes have no importance of their own, and the mean latency of networks
    that have them. No latency counts as less than a hundredth of the median of its gene.

    Args:
        weights: a trained supernetwork.
        count: ``latency_ms`` of a genotype.
        n: networks of each option.
        seed: of their draw.

    Returns:
        one row per option: ``task``, ``gene``, ``option``, ``score`` (mean over the networks),
        ``importance``, ``latency_ms``, ``networks``, and ``worth``, which of the best option of a
        gene is 1.

    Source: the search objective of MIAS (seed poster and talk).
    """
    sampled = networks_with(weights.genes, weights.space, n=n, seed=seed)
    networks = len(set(itertools.chain(*sampled.values())))
    _logger.info("%s: scoring %d networks with shared weights", weights.task, networks)
    rows = [
        {
            "task": weights.task,
            "gene": gene,
            "option": option,
            "score": _mean(weights.score(network) for network in networks),
            "importance": _importance(weights, gene, networks),
            "latency_ms": _latency_ms(weights, count, gene, option, networks),
            "networks": len(networks),
        }
        for (gene, option), networks in sampled.items()
    ]
    columns = ["task", "gene", "option", "score", "importance", "latency_ms", "networks"]
    table = pd.DataFrame(rows, columns=columns)
    table["importance"] = _shares(table["importance"], table["gene"])
    return table.assign(worth=_worth(table))


def importance_table(shared: SharedWeights, *, n: int = 32, seed: int = 0) -> pd.DataFrame:
    """How important each block of each level of a supernetwork is.

    Args:
        shared: a trained supernetwork.
        n: networks that have the block, over which is averaged.
        seed: of their draw.

    Returns:
        one row per task, level and block, where there is a choice of blocks: ``task``, ``level``
        (from the image inwards), ``block``, ``importance`` (share of the level), and the means over
        channels that it is made of: ``mean_importance``, and by part ``down``, ``up``, ``join``
        (NaN where there is none); ``networks``.

    Source: Yu et al. 2018, arXiv:1711.05908 (NISP), of channels; blocks as in the seed talk.
    """
    rows = [
        _block_row(weights, gene, option, networks)
        for weights in weights_of(shared)
        for (gene, option), networks in networks_with(
            weights.genes, weights.space, n=n, seed=seed
        ).items()
        if gene.startswith("block_")
    ]
    columns = ["task", "level", "block", "importance", "mean_importance", *PARTS, "networks"]
    table = pd.DataFrame(rows, columns=columns)
    table["importance"] = _shares(table["mean_importance"], table["task"] + table["level"].map(str))
    return table


def write_importance(table: pd.DataFrame, folder: Path) -> Path:
    """Write ``importance.csv``.

    Args:
        table: of :func:`importance_table`; of several tasks one below the other.
        folder: where to.
    """
    write_table(table, folder, "importance", parquet=False)
    return folder / "importance.csv"


def level_of(gene: str) -> int:
    """Level that a gene is of; 0 for those of the whole network."""
    return int(gene.rpartition("_")[2]) if "_" in gene else 0


def _block_row(
    weights: Weights, gene: str, option: Gene, networks: Sequence[Genotype]
) -> dict[str, object]:
    level = level_of(gene)
    found = [block_importance(weights.subnet(network)) for network in networks]
    parts = {
        part: _mean(float(each[level, part].mean()) for each in found if (level, part) in each)
        for part in PARTS
    }
    return {
        "task": weights.task,
        "level": level,
        "block": str(option),
        "mean_importance": _mean(mean_of_level(each, level) for each in found),
        **parts,
        "networks": len(networks),
    }


def _importance(weights: Weights, gene: str, networks: Sequence[Genotype]) -> float:
    if not gene.startswith("block_"):
        return 1.0
    kept = ref(weights)
    return _mean(_of_levels(kept, network)[level_of(gene)] for network in networks)


@lru_cache(50_000)
def _of_levels(weights: ReferenceType[Weights], network: Genotype) -> tuple[float, ...]:
    """Importance of the block of each level; searches with the same weights share it.

    A weak reference, since what is kept here shall not keep a supernetwork in memory.
    """
    found = block_importance(alive(weights).subnet(network))
    return tuple(mean_of_level(found, level) for level in range(network.depth))


def _latency_ms(
    weights: Weights,
    count: Callable[[Genotype], Mapping[str, float]],
    gene: str,
    option: Gene,
    networks: Sequence[Genotype],
) -> float:
    if gene.startswith("block_"):
        return 1e3 * weights.latencies.floored(level_of(gene), str(option))
    return _mean(
        counted(count, network).get("latency_ms") for network in networks[:_COUNTED_NETWORKS]
    )


def counted(
    count: Callable[[Genotype], Mapping[str, float]], genotype: Genotype
) -> Mapping[str, float]:
    """What can be counted of a network; nothing of one that does not fit the chip or task."""
    try:
        return count(genotype)
    except AnalogmedError:
        return {}


def _mean(values: Iterable[float | None]) -> float:
    """Of those that are numbers; NaN where none is."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _worth(table: pd.DataFrame) -> pd.Series:
    """Of the best option of each gene 1."""
    latency_ms = table["latency_ms"].fillna(math.inf)
    median = table.groupby("gene", sort=False)["latency_ms"].transform("median")
    floor = (_FLOOR * median).where(median > 0, _LEAST)
    worth: pd.Series = (
        table["importance"] * table["score"] / np.maximum(latency_ms, floor)
    ).fillna(0.0)
    best = worth.groupby(table["gene"], sort=False).transform("max")
    return (worth / best).where(best > 0, 1.0)


def _shares(values: pd.Series, groups: pd.Series) -> pd.Series:
    """Of the sum of each group; equal ones where nothing is."""
    grouped = values.groupby(groups, sort=False)
    total, number = grouped.transform("sum"), grouped.transform("size")
    return (values / total).where(total > 0, 1 / number)


def report_importance(
    supernets: Sequence[Path | str], folder: Path, *, n: int = 32, seed: int = 0
) -> pd.DataFrame:
    """Write ``importance.csv`` and ``figures/importance.png``.

    Args:
        supernets: run folders of trained supernetworks.
        folder: where to.
        n: networks that hold a block, over which is averaged.
        seed: of their draw.

    Returns:
        the table, as :func:`importance_table` returns it, with the run
        folder of each supernetwork in the column ``supernet``.

    Raises:
        CheckpointError: a run folder holds no trained supernetwork.
        DataError: pruning has left no level a choice of blocks.
    """
    folders = dict.fromkeys(Path(one) for one in supernets)
    tables = [
        importance_table(SharedWeights.load(one), n=n, seed=seed).assign(supernet=str(one))
        for one in folders
    ]
    table = pd.concat(tables, ignore_index=True)
    write_importance(table, folder)
    importance_heat_map(table, folder / FIGURE)
    return table
