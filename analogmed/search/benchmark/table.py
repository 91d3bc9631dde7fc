"""Benchmark table of a space's networks, each trained stand-alone and evaluated on chips."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import write_atomically
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.plain import from_plain, to_plain
from analogmed.foundation.text import known_name, nearest
from analogmed.foundation.time_constants import DAY_S, HOUR_S, MONTH_S, SECOND_S, T0_S
from analogmed.models import Genotype
from analogmed.models.genotype import VERSION
from analogmed.search.objectives import COUNTED, METRICS
from analogmed.search.space.space import Space

FORMAT = 1
"""Version of the table's columns and metadata."""

TIMES_S = (T0_S, SECOND_S, HOUR_S, DAY_S, MONTH_S)
"""Times after programming at which every network of a table is evaluated, in s."""

KEY = ("task", "seed", "training", "key")
COLUMNS: Mapping[str, str] = {
    "task": "string",
    "seed": "int64",
    "key": "string",
    "genotype": "string",
    "training": "string",
    "hardware": "string",
    "chip": "Int64",
    "time_s": "float64",
    "dice": "float64",
    "n_cases": "int64",
    **dict.fromkeys(COUNTED, "float64"),
    "training_cpu_s": "float64",
    "provenance": "string",
}
"""Columns and types of a table.

A row is the digital run of a network, or one chip of it at one time, with the mean Dice over cases.
``chip`` and ``time_s`` are missing for digital runs. ``seed`` is the root of training and chips.
``training_cpu_s`` is processor time, for hwa including the digital training before it.
"""

_METADATA = b"analogmed.medbench"


@dataclass(frozen=True)
class BenchmarkTable:
    """A benchmark table, and an evaluator that looks networks up instead of training them.

    Attributes:
        rows: the table, columns :data:`COLUMNS`.
        about: description of how it was made: space, tasks, training, hardware.
        path: file that it was read from.
    """

    rows: pd.DataFrame
    about: Mapping[str, Any]
    path: Path

    @cached_property
    def space(self) -> Space:
        """Search space of the networks."""
        return from_plain(Space, self.about["space"], f"{self.path}: space")

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that networks were trained on; the one with most networks first."""
        return tuple(map(str, _most_first(self.rows.groupby("task")["key"].nunique())))

    def seeds(self, task: str | None = None) -> tuple[int, ...]:
        """Return the seeds of a task's networks; the one with most networks first."""
        return self._seeds[self._task(task)]

    def networks(
        self, task: str | None = None, *, training: str = "hwa", seed: int | None = None
    ) -> pd.DataFrame:
        """Return a summary of each network.

        Args:
            task: name of a task; by default the one with most networks.
            training: hwa, or digital for the network before hardware-aware training.
            seed: seed of training and chips; by default the one with most networks.

        Returns:
            One row per network, index ``key``: ``genotype`` (JSON), the metrics of
            :data:`analogmed.search.objectives.METRICS` that the table has, ``dice_1s`` and
            ``dice_1h``, and ``_low`` and ``_high`` of Dice on chips: 95 % t intervals over chips,
            for these patients.

        Raises:
            ConfigError: the table has no such task, training or seed.
        """
        return self._summaries(self._task(task), training, self._seed(task, seed)).copy()

    def evaluate(
        self,
        genotype: Genotype | str,
        folder: Path | None = None,
        *,
        task: str | None = None,
        seed: int | None = None,
        training: str = "hwa",
        noise: int | None = None,
    ) -> dict[str, float]:
        """Return the metrics of a network.

        Args:
            genotype: genotype of the network.
            folder: not used, because nothing is trained.
            task: name of a task; by default the one with most networks.
            seed: seed of training and chips; by default the one with most networks.
            training: hwa or digital.
            noise: number that makes the query random, as a real evaluation is: one of the seeds
                that the network was trained with, and one of its chips, are drawn by this number
                and the network's key. Equal numbers give equal metrics. Such a query has no
                ``dice_1d_std``.

        Raises:
            ConfigError: the network is not in the table; names the nearest one.
        """
        genotype = Genotype.of(genotype)
        task = self._task(task)
        if noise is None:
            found = self._summaries(task, training, self._seed(task, seed))
            return _metrics(found, self._key(genotype, found))
        generator = np.random.default_rng(derive_seed(noise, "query", task, genotype.key))
        seeds = self.seeds(task) if seed is None else (self._seed(task, seed),)
        tables = [self._summaries(task, training, number) for number in seeds]
        holding = [number for number, table in enumerate(tables) if genotype.key in table.index]
        which = int(generator.choice(holding)) if holding else 0
        metrics = _metrics(tables[which], self._key(genotype, tables[which]))
        metrics.pop("dice_1d_std", None)  # a query of one chip has no deviation over chips
        return metrics | self._of_one_chip(task, training, seeds[which], genotype, generator)

    def count(self, genotype: Genotype | str) -> dict[str, float]:
        """Return the parameters, tiles, latency and energy of a network."""
        metrics = self.evaluate(genotype)
        return {name: metrics[name] for name in COUNTED}

    def _task(self, task: str | None) -> str:
        if task is None:
            return self.tasks[0]
        task = known_name(task, self.tasks)
        if task not in self.tasks:
            raise ConfigError(f"{self.path}: no task '{task}'; {nearest(task, self.tasks)}")
        return task

    def _seed(self, task: str | None, seed: int | None) -> int:
        known = self.seeds(task)
        if seed is not None and seed not in known:
            raise ConfigError(f"{self.path}: no seed {seed} of {self._task(task)}; found {known}")
        return known[0] if seed is None else seed

    def _key(self, genotype: Genotype, found: pd.DataFrame) -> str:
        if genotype.key in found.index:
            return genotype.key
        if genotype in self.space:
            why = "is of the table's space, but was not trained"
        else:
            why = "is not of the table's space"
        near = min(map(Genotype.of, found["genotype"]), key=lambda other: _far(genotype, other))
        raise ConfigError(f"{self.path}: {genotype} {why}; the nearest network in it is {near}")

    @cached_property
    def _seeds(self) -> dict[str, tuple[int, ...]]:
        counts = {task: part.groupby("seed")["key"] for task, part in self.rows.groupby("task")}
        return {
            str(task): tuple(map(int, _most_first(networks.nunique())))
            for task, networks in counts.items()
        }

    @cached_property
    def _cache(self) -> dict[tuple[str, str, int], tuple[pd.DataFrame, pd.DataFrame]]:
        return {}

    def _summaries(self, task: str, training: str, seed: int) -> pd.DataFrame:
        return self._looked_up(task, training, seed)[0]

    def _looked_up(self, task: str, training: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return a summary of each network, and Dice with one row per network and chip."""
        key = (task, training, seed)
        if key not in self._cache:
            known = tuple(map(str, self.rows["training"].unique()))
            if training not in known:
                raise ConfigError(f"no training '{training}'; {nearest(training, known)}")
            named = self.rows["task"].eq(task) & self.rows["training"].eq(training)
            rows = self.rows[named & self.rows["seed"].eq(seed)]
            on_chips = rows[rows["chip"].notna()]
            chips = on_chips.pivot(index=["key", "chip"], columns="time_s", values="dice")
            self._cache[key] = _summaries(rows), chips
        return self._cache[key]

    def _of_one_chip(
        self,
        task: str,
        training: str,
        seed: int,
        genotype: Genotype,
        generator: np.random.Generator,
    ) -> dict[str, float]:
        chips = self._looked_up(task, training, seed)[1].loc[genotype.key]
        at = chips.iloc[int(generator.integers(len(chips)))]
        return {name: float(at[time_s]) for name, time_s in _TIMES.items() if name in METRICS} | {
            "avm_drop": float(at[SECOND_S] - at[MONTH_S])
        }


_TIMES = {
    "dice_t0": 0.0,
    "dice_1s": SECOND_S,
    "dice_1h": HOUR_S,
    "dice_1d": DAY_S,
    "dice_1mo": MONTH_S,
}


_MEASURED = ("dice", "training_cpu_s")
"""Columns of numbers that hardly repeat: split by bytes, they are a sixth smaller in a wheel."""


def load(path: Path | str | None = None) -> BenchmarkTable:
    """Read a benchmark table.

    Args:
        path: Parquet file; by default the one in the package.

    Raises:
        ConfigError: the file does not exist.
        DataError: the file is damaged, no benchmark table, or of another version.
    """
    path = Path(
        str(files("analogmed.search.benchmark") / "data" / "medbench.parquet")
        if path is None
        else path
    )
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such table; experiments/medbench.py makes one")
    try:
        table = pq.read_table(path)
        described = (table.schema.metadata or {}).get(_METADATA)
        about = json.loads(described) if described else None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: damaged, or no Parquet file ({error}); get it again") from error
    if not isinstance(about, dict):
        raise DataError(f"{path}: a Parquet file, but no benchmark table of analogmed")
    _check_versions(path, about)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing or not table.num_rows:
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no row"
        raise DataError(f"{path}: the table {what}; get it again")
    return BenchmarkTable(table.to_pandas().astype(dict(COLUMNS)), about, path)


def save(rows: pd.DataFrame, about: Mapping[str, Any], path: Path | str) -> Path:
    """Write a benchmark table, in one step and with the same bytes for the same rows.

    Args:
        rows: table with the columns :data:`COLUMNS`.
        about: description of how it was made; JSON values, with ``space`` as
            :func:`space_to_dict` returns it.
        path: Parquet file.
    """
    rows = rows[list(COLUMNS)].astype(dict(COLUMNS))
    rows = rows.sort_values([*KEY, "chip", "time_s"], kind="stable", ignore_index=True)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    described = {"format": FORMAT, "genotype_version": VERSION, **about}
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), _METADATA: json.dumps(described, sort_keys=True).encode()}
    )
    layout: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 22,
        "use_byte_stream_split": list(_MEASURED),
        "use_dictionary": [name for name in COLUMNS if name not in _MEASURED],
    }
    return write_atomically(path, lambda file: pq.write_table(table, file, **layout))


def space_to_dict(space: Space) -> dict[str, Any]:
    """Return a space as dictionaries, lists, strings and numbers."""
    return to_plain(space)


def _check_versions(path: Path, about: Mapping[str, Any]) -> None:
    for name, known in (("format", FORMAT), ("genotype_version", VERSION)):
        if about.get(name) != known:
            raise DataError(
                f"{path}: its {name} is {about.get(name)!r}, and this analogmed knows {known}; "
                "read it with the analogmed that made it"
            )
    unknown = set(about.get("space", {})) - {field.name for field in fields(Space)}
    if unknown or "space" not in about:
        raise DataError(f"{path}: its space is not understood: {sorted(unknown) or 'missing'}")


def _most_first(counts: pd.Series) -> list[Any]:
    return sorted(counts.index, key=lambda name: (-counts[name], name))


def _summaries(rows: pd.DataFrame) -> pd.DataFrame:
    first = rows.drop_duplicates("key").set_index("key")
    summary = first[["genotype", *COUNTED, "training_cpu_s", "n_cases"]].copy()
    summary["dice_digital"] = rows[rows["chip"].isna()].set_index("key")["dice"]
    on_chips = rows[rows["chip"].notna()]
    for name, time_s in _TIMES.items():
        at = on_chips[on_chips["time_s"] == time_s].groupby("key")["dice"]
        mean, std, n = at.mean(), at.std(ddof=1), at.size()
        half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * std / np.sqrt(n)
        summary[name] = mean
        summary[f"{name}_low"] = (mean - half).clip(0.0, 1.0)
        summary[f"{name}_high"] = (mean + half).clip(0.0, 1.0)
        if name == "dice_1d":
            summary["dice_1d_std"], summary["n_chips"] = std, n
    summary["avm_drop"] = summary["dice_1s"] - summary["dice_1mo"]
    return summary.sort_index()


def _metrics(summaries: pd.DataFrame, key: str) -> dict[str, float]:
    names = [name for name in METRICS if name in summaries]
    values = summaries.loc[[key], names].to_numpy(dtype=np.float64)[0]
    found = dict(zip(names, map(float, values), strict=True))
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _far(one: Genotype, other: Genotype) -> tuple[int, int, int]:
    """Return the distance of two genotypes, to be compared in order.

    It consists of the number of levels with different blocks, the sum of channel differences, and
    the number of levels that differ in any property.
    """
    pairs = list(zip(one.levels, other.levels, strict=True))
    channels = sum(abs(a.channels - b.channels) for a, b in pairs)
    return sum(a.block != b.block for a, b in pairs), channels, sum(a != b for a, b in pairs)
