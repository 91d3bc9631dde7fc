"""Comparison of search strategies on the benchmark table, by the number of queried networks.

    python experiments/compare_strategies.py [--budget 60] [--seeds 50] [--out runs/strategies]
    python experiments/compare_strategies.py --train                     # with MIAS and variants
    python experiments/compare_strategies.py --supernetworks TASK=DIR .. # existing supernetworks

Every strategy queries the same number of distinct networks; a repeated proposal does not count. A
query returns the Dice on one chip, including its noise (with --exact, the mean over chips). The
reported value is the mean over all chips of the network that the search ranks best so far.
Strategies that use supernetworks get those of the table's own space and data. These were not
trained on any of the patients on which the table's networks are tested.

Output in OUT: curves.csv and curves.png (best 1-day Dice after n queries, mean and 95 % interval
over searches), strategies.csv and strategies.md (final results, and the difference from random
search with the same seed), searches.csv (all searches), and, with supernetworks, shared_weights.csv
(rank agreement of their scores).
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from _programs import in_processes, write_table
from _strategy_tables import BASELINE, curves_of, shared_weights_text, strategies_text, summary_of
from _supernets import EPOCHS, ranked_by_shared_weights, refuse_tested, train_supernet

from analogmed.foundation.files import write_text_atomically
from analogmed.models import Genotype
from analogmed.report.figures.ranking import anytime_curves
from analogmed.search.benchmark.table import BenchmarkTable, load
from analogmed.search.objectives import Goal
from analogmed.search.strategy import (
    METRICS_ATTRIBUTE,
    VIOLATIONS_ATTRIBUTE,
    Context,
    distributions,
    find_strategy,
)

STRATEGIES = ("random", "evolution", "nsga2", "nsga3", "tpe", "analognas")
BY_SUPERNETWORKS = {"mias": 1, "mt_mias": 2, "mt_mias_c": 2}  # number of required tasks
RULE = "ours"  # training rule of these supernetworks
MOST_REPEATS = 5  # trials per network of the budget, after which a search counts as exhausted


@dataclass(frozen=True)
class Setting:
    """Settings that all searches share.

    Attributes:
        path: path of the table; ``None`` for the shipped one.
        task: task of the table; ``None`` for the one with the most networks.
        budget: number of distinct networks that a search may query.
        exact: whether queries return the mean over chips.
        objective: metric that the searches optimise.
        supernetworks: run folders of supernetworks by task.
    """

    path: Path | None = None
    task: str | None = None
    budget: int = 60
    exact: bool = False
    objective: str = "dice_1d"
    supernetworks: Mapping[str, Path] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> None:
    """Run all searches, then write and print their results."""
    given = _arguments(arguments)
    bench = load(given.table)
    setting = Setting(given.table, given.task, given.budget, given.exact, given.objective)
    _check(bench, setting)
    setting = replace(setting, supernetworks=supernetworks_of(bench, given))
    names = list(dict.fromkeys((BASELINE, *(given.strategies or possible(setting)))))
    _check_supernetworks(names, bench, setting)
    searches = pd.concat(
        [run_strategy(name, setting, given.seeds, given.workers) for name in names]
    )
    for path in given.add:
        searches = with_others(searches, path)
    best = table_values(bench, setting).max()
    curves, summary = curves_of(searches), summary_of(searches, best)
    write_table(given.out, "searches", searches)
    write_table(given.out, "curves", curves)
    write_table(given.out, "strategies", summary)
    query = "the mean over chips" if setting.exact else "one chip"
    text = strategies_text(summary, setting.objective, query, best)
    if setting.supernetworks:
        ranked = ranked_by_shared_weights(bench, setting.supernetworks, given.n_boot)
        write_table(given.out, "shared_weights", ranked)
        text += f"\n{shared_weights_text(ranked)}"
    write_text_atomically(given.out / "strategies.md", text)
    if setting.objective == "dice_1d":
        anytime_curves(curves, given.out / "curves.png", best=best)
    print(text)


def supernetworks_of(bench: BenchmarkTable, given: argparse.Namespace) -> dict[str, Path]:
    """Return run folders of supernetworks by task: given ones, and trained ones for other tasks."""
    folders = {
        task: Path(folder) for task, _, folder in (p.partition("=") for p in given.supernetworks)
    }
    refuse_tested(bench, folders)
    for seed, task in enumerate(bench.tasks):  # one seed each: independent initial weights
        if given.train and task not in folders:
            folders[task] = given.out / "supernets" / task
            train_supernet(bench, task, folders[task], rule=RULE, epochs=given.epochs, seed=seed)
    return folders


def possible(setting: Setting) -> tuple[str, ...]:
    """Return the strategies for which there are enough supernetworks."""
    there = len(setting.supernetworks)
    return (*STRATEGIES, *(name for name, needed in BY_SUPERNETWORKS.items() if needed <= there))


def run_strategy(name: str, setting: Setting, seeds: int, workers: int) -> pd.DataFrame:
    """Return all searches of a strategy: one row per seed and query."""
    run = partial(search, name, setting)
    found = sorted(in_processes(run, range(seeds), workers), key=lambda part: part["seed"].iloc[0])
    print(
        f"{name}: {np.mean([part['seconds'].iloc[0] for part in found]):.2f} s of a core a search"
    )
    return pd.concat(found)


def with_others(searches: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return searches combined with earlier ones of other strategies, in the usual order.

    Both must contain the same searches of the baseline, which shows that all settings are equal.
    """
    others, columns = pd.read_csv(path), ["seed", "queries", "value"]
    one, other = (
        table.loc[table["strategy"] == BASELINE, columns].reset_index(drop=True)
        for table in (searches, others)
    )
    if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=1e-9):
        raise SystemExit(
            f"{path}: its searches by {BASELINE} are others; give the table, task, budget, seeds "
            "and kind of query that it was made with"
        )
    found = pd.concat([searches, others[~others["strategy"].isin(searches["strategy"])]])
    order = {name: number for number, name in enumerate((*STRATEGIES, *BY_SUPERNETWORKS))}
    place = found["strategy"].map(lambda name: order.get(name, len(order)))
    return found.iloc[np.argsort(place, kind="stable")]


def search(name: str, setting: Setting, seed: int) -> pd.DataFrame:
    """Return one search: the value of the network that it ranks best, after each query."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench, goal = _bench(setting), Goal((setting.objective,))
    supernetworks = dict(setting.supernetworks)
    context = Context(bench.space, goal, setting.budget, seed, bench.count, supernetworks)
    options = {"task": setting.task or bench.tasks[0]} if name == "mias" else {}
    start = time.process_time()
    sampler = find_strategy(name)(context, **options)
    study = optuna.create_study(directions=list(goal.directions), sampler=sampler)
    queried: dict[Genotype, dict[str, float]] = {}
    held: list[float] = []
    values, first_seed = table_values(bench, setting), bench.seeds(setting.task)[0]
    for _ in range(MOST_REPEATS * setting.budget):
        trial = study.ask(distributions(bench.space))
        genotype = bench.space.decode(trial.params)
        is_new = genotype not in queried
        if is_new:
            noise = None if setting.exact else seed
            queried[genotype] = bench.evaluate(
                genotype, task=setting.task, seed=first_seed, noise=noise
            )
        trial.set_user_attr(METRICS_ATTRIBUTE, queried[genotype])
        trial.set_user_attr(VIOLATIONS_ATTRIBUTE, list(goal.violations(queried[genotype])))
        study.tell(trial, goal.values(queried[genotype]))
        if is_new:
            believed = min(queried, key=lambda g: goal.loss(queried[g]))
            held.append(float(values[believed.key]))
        if len(queried) == setting.budget:
            break
    asked = len(held)
    held += [held[-1]] * (setting.budget - asked)  # the search proposes no further new network
    rows = {"strategy": name, "seed": seed, "queries": range(1, setting.budget + 1), "value": held}
    return pd.DataFrame(rows).assign(seconds=time.process_time() - start, asked=asked)


def table_values(bench: BenchmarkTable, setting: Setting) -> pd.Series:
    """Return the objective of every network in the table, by network key."""
    return bench.networks(setting.task)[setting.objective]


_LOADED: dict[Path | None, BenchmarkTable] = {}


def _bench(setting: Setting) -> BenchmarkTable:
    """Return the table, which each process reads once."""
    if setting.path not in _LOADED:
        _LOADED[setting.path] = load(setting.path)
    return _LOADED[setting.path]


def _check(bench: BenchmarkTable, setting: Setting) -> None:
    there, wanted = len(bench.networks(setting.task)), sum(1 for _ in bench.space.enumerate())
    if there < wanted:
        raise SystemExit(
            f"{bench.path} holds {there} of the {wanted} networks of its space: a search would ask "
            "for the others; finish the table with experiments/medbench.py"
        )
    if setting.budget > there:
        raise SystemExit(f"--budget {setting.budget}: the table has {there} networks")


def _check_supernetworks(names: list[str], bench: BenchmarkTable, setting: Setting) -> None:
    task, there = setting.task or bench.tasks[0], setting.supernetworks
    for name in names:
        needed = BY_SUPERNETWORKS.get(name, 0)
        if len(there) < needed or (needed and task not in there):
            raise SystemExit(
                f"{name} searches with supernetworks of {needed} or more tasks, {task} among them, "
                f"and there are those of {', '.join(there) or 'none'}: give --train, or "
                "--supernetworks TASK=DIR"
            )


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="the shipped one by default")
    parser.add_argument("--task", help="of the table; that with most networks by default")
    parser.add_argument("--strategies", nargs="+", help="by default all that are possible")
    parser.add_argument("--objective", default="dice_1d")
    parser.add_argument("--budget", type=int, default=60, help="different networks a search")
    parser.add_argument("--seeds", type=int, default=50, help="searches of each strategy")
    parser.add_argument("--exact", action="store_true", help="queries give the mean over chips")
    parser.add_argument("--train", action="store_true", help="supernetworks of the table's tasks")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of supernetworks")
    parser.add_argument("--supernetworks", nargs="*", default=[], metavar="TASK=DIR")
    parser.add_argument(
        "--add", nargs="*", type=Path, default=[], metavar="searches.csv",
        help="of other strategies, run before with the same settings: for one table and figure",
    )  # fmt: skip
    parser.add_argument("--n-boot", type=int, default=1000, help="draws of networks, for taus")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
