"""Score of each option of each gene, from the networks of a supernetwork that have it."""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from weakref import ReferenceType, ref

import numpy as np
import pandas as pd

from analogmed.foundation.errors import AnalogmedError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.checks import require_at_least_one
from analogmed.models import Genotype
from analogmed.report.figures.importance import importance_heat_map
from analogmed.search.space.choices import Option, Options
from analogmed.search.space.space import Gene, Space
from analogmed.search.supernet.importance import PARTS, block_importance, mean_of_level
from analogmed.search.supernet.weights import SharedWeights, Weights, alive, weights_of
from analogmed.tables.search import IMPORTANCE

FIGURE = "figures/importance.png"
"""Path of the figure in a run folder."""

_logger = logging.getLogger("analogmed.search")
_COUNTED_NETWORKS = 8
_FLOOR = 0.01
_LEAST = 1e-9


def networks_with(
    genes: Options, space: Space, *, n: int, seed: int
) -> dict[Option, tuple[Genotype, ...]]:
    """Return networks that have an option, for every option of a gene with a choice.

    The networks of two options differ in that gene alone (common random numbers). A network without
    the level of the gene gets more levels.

    Args:
        genes: options of each gene, all of them or those that are left.
        space: search space of the networks.
        n: number of networks per option.
        seed: seed of the draw.

    Raises:
        ConfigError: fewer than one network.
    """
    require_at_least_one("n", n)
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
    """Return ``importance * mean score / latency`` of each option of each gene.

    The importance of a block is its level's, averaged over the networks that have it, as a share of
    that of all blocks of the level; its latency is the one used in the supernetwork's training.
    Options of the other genes have an importance of 1, and the mean latency of networks that have
    them. Latencies below a hundredth of the median of their gene are raised to that value.

    Args:
        weights: a trained supernetwork.
        count: function that returns ``latency_ms`` of a genotype.
        n: number of networks per option.
        seed: seed of the draw.

    Returns:
        one row per option: ``task``, ``gene``, ``option``, ``score`` (mean over the networks),
        ``importance``, ``latency_ms``, ``networks``, and ``worth``, which is 1 for the best option
        of a gene.

    Source: search objective of MIAS, from its poster and talk.
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
    return table.assign(worth=_relative_score(table))


def importance_table(shared: SharedWeights, *, n: int = 32, seed: int = 0) -> pd.DataFrame:
    """Return the importance of each block of each level of a supernetwork.

    Args:
        shared: a trained supernetwork.
        n: number of networks with the block, over which the importance is averaged.
        seed: seed of the draw.

    Returns:
        one row per task, level and block, where there is a choice of blocks: ``task``, ``level``
        (counted from the image), ``block``, ``importance`` (share of the level), and the means over
        channels that it is computed from: ``mean_importance``, and by part ``down``, ``up``,
        ``join`` (NaN where there is none); ``networks``.

    Source: Yu et al. 2018, arXiv:1711.05908 (NISP), for channels; talk on MIAS, for blocks.
    """
    rows = [
        _block_row(weights, gene, option, networks)
        for weights in weights_of(shared)
        for (gene, option), networks in networks_with(
            weights.genes, weights.space, n=n, seed=seed
        ).items()
        if gene.startswith("block_")
    ]
    table = IMPORTANCE.frame(rows)
    table["importance"] = _shares(table["mean_importance"], table["task"] + table["level"].map(str))
    return table


def write_importance(table: pd.DataFrame, folder: Path) -> Path:
    """Write ``importance.csv``.

    Args:
        table: table of :func:`importance_table`; tables of several tasks are concatenated.
        folder: output folder.
    """
    IMPORTANCE.write(table, folder)
    return folder / "importance.csv"


def level_of(gene: str) -> int:
    """Return the level of a gene; 0 for genes of the whole network."""
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
    """Return the importance of each level's block; searches with the same weights share it.

    The reference is weak, so that this cache does not keep a supernetwork in memory.
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
    """Return the counted metrics; empty for a network that does not fit the chip or task."""
    try:
        return count(genotype)
    except AnalogmedError:
        return {}


def _mean(values: Iterable[float | None]) -> float:
    """Return the mean without missing values; NaN if all are missing."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _relative_score(table: pd.DataFrame) -> pd.Series:
    """Return the scores relative to the best option of each gene."""
    latency_ms = table["latency_ms"].fillna(math.inf)
    median = table.groupby("gene", sort=False)["latency_ms"].transform("median")
    floor = (_FLOOR * median).where(median > 0, _LEAST)
    worth: pd.Series = (
        table["importance"] * table["score"] / np.maximum(latency_ms, floor)
    ).fillna(0.0)
    best = worth.groupby(table["gene"], sort=False).transform("max")
    return (worth / best).where(best > 0, 1.0)


def _shares(values: pd.Series, groups: pd.Series) -> pd.Series:
    """Return the share of each value in the sum of its group; equal shares if the sum is 0."""
    grouped = values.groupby(groups, sort=False)
    total, number = grouped.transform("sum"), grouped.transform("size")
    return (values / total).where(total > 0, 1 / number)


def importance_of(supernets: Sequence[Path | str], *, n: int = 32, seed: int = 0) -> pd.DataFrame:
    """Return the importance of each block of each level of several supernetworks.

    Args:
        supernets: run folders of trained supernetworks.
        n: number of networks with a block, over which the importance is averaged.
        seed: seed of the draw.

    Returns:
        the table, as :func:`importance_table` returns it, with the run
        folder of each supernetwork in the column ``supernet``.

    Raises:
        CheckpointError: a run folder contains no trained supernetwork.
    """
    folders = dict.fromkeys(Path(one) for one in supernets)
    tables = [
        importance_table(SharedWeights.load(one), n=n, seed=seed).assign(supernet=str(one))
        for one in folders
    ]
    return pd.concat(tables, ignore_index=True)


def report_importance(table: pd.DataFrame, folder: Path) -> None:
    """Write ``importance.csv`` and ``figures/importance.png``.

    Args:
        table: table of :func:`importance_of`.
        folder: output folder.

    Raises:
        DataError: pruning has left no level with a choice of blocks.
    """
    write_importance(table, folder)
    importance_heat_map(table, folder / FIGURE)
