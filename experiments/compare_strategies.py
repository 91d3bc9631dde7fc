"""Search strategies on the benchmark table: what each has found after so many networks.

    python experiments/compare_strategies.py [--budget 60] [--seeds 50] [--out runs/strategies]

Every strategy queries as many different networks; one that is proposed again costs nothing. A
query is one chip of the network, as noisy as a real one (--exact: the mean over chips). What counts
is the mean over all chips of the network that the search holds for the best.

Written to OUT: curves.csv and curves.png (best 1-day Dice after n queries, mean and 95 % interval
over searches), strategies.csv and .md (at the end, and less random search of the same seed), and
searches.csv (each of them).
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from scipy import stats

from analogmed.atomic import write_text_atomically
from analogmed.models import Genotype
from analogmed.report.ranking_figures import anytime_curves
from analogmed.search.bench import Bench, load
from analogmed.search.objectives import Goal
from analogmed.search.strategy import (
    METRICS_ATTRIBUTE,
    VIOLATIONS_ATTRIBUTE,
    Context,
    distributions,
    find_strategy,
)

STRATEGIES = ("random", "evolution", "nsga2", "nsga3", "tpe", "analognas")
BASELINE = "random"
LEVEL = 0.95
MOST_REPEATS = 5  # trials per network of the budget, after which a search has run dry
CLOSE = 0.005  # of Dice, to the best of the table


@dataclass(frozen=True)
class Setting:
    """What all searches have in common.

    Attributes:
        path: of the table; the shipped one without.
        task: of the table; that with most networks without.
        budget: different networks that a search may query.
        exact: queries give the mean over chips.
        objective: metric that is searched for.
    """

    path: Path | None = None
    task: str | None = None
    budget: int = 60
    exact: bool = False
    objective: str = "dice_1d"


def main(arguments: list[str] | None = None) -> None:
    """Run all searches; write and print what they have found."""
    given = _arguments(arguments)
    setting = Setting(given.table, given.task, given.budget, given.exact, given.objective)
    bench = load(setting.path)
    _check(bench, setting)
    names = list(dict.fromkeys((BASELINE, *given.strategies)))
    searches = pd.concat(
        [run_strategy(name, setting, given.seeds, given.workers) for name in names]
    )
    best = table_values(bench, setting).max()
    curves, summary = curves_of(searches), summary_of(searches, best)
    write_text_atomically(given.out / "searches.csv", searches.to_csv(index=False))
    write_text_atomically(given.out / "curves.csv", curves.to_csv(index=False))
    write_text_atomically(given.out / "strategies.csv", summary.to_csv(index=False))
    text = to_text(summary, setting, best)
    write_text_atomically(given.out / "strategies.md", text)
    if setting.objective == "dice_1d":
        anytime_curves(curves, given.out / "curves.png", best=best)
    print(text)


def run_strategy(name: str, setting: Setting, seeds: int, workers: int) -> pd.DataFrame:
    """All searches of a strategy: one row per seed and query."""
    run = partial(search, name, setting)
    if workers == 1:
        found = [run(seed) for seed in range(seeds)]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(run, range(seeds)))
    print(
        f"{name}: {np.mean([part['seconds'].iloc[0] for part in found]):.2f} s of a core a search"
    )
    return pd.concat(found)


def search(name: str, setting: Setting, seed: int) -> pd.DataFrame:
    """One search: the value of the network that it holds for the best, after each query."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench, goal = _bench(setting), Goal((setting.objective,))
    context = Context(bench.space, goal, setting.budget, seed, bench.count, {})
    start = time.process_time()
    sampler = find_strategy(name)(context)
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
    held += [held[-1]] * (setting.budget - asked)  # it proposes nothing new any more
    rows = {"strategy": name, "seed": seed, "queries": range(1, setting.budget + 1), "value": held}
    return pd.DataFrame(rows).assign(seconds=time.process_time() - start, asked=asked)


def table_values(bench: Bench, setting: Setting) -> pd.Series:
    """What the table says of every network, by its key."""
    return bench.networks(setting.task)[setting.objective]


def curves_of(searches: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds after each query, with its t interval."""
    groups = searches.groupby(["strategy", "queries"], sort=False)["value"]
    rows = [
        {"strategy": name, "queries": queries, **_mean(values.to_numpy()), "seeds": len(values)}
        for (name, queries), values in groups
    ]
    return pd.DataFrame(rows)


def summary_of(searches: pd.DataFrame, best: float) -> pd.DataFrame:
    """One row per strategy, after its last query; differences are paired by seed."""
    last = searches[searches["queries"] == searches["queries"].max()]
    values = last.pivot(index="seed", columns="strategy", values="value")
    whole = searches.pivot(index=["seed", "queries"], columns="strategy", values="value")
    anytime = whole.groupby("seed").mean()
    rows = []
    for name in dict.fromkeys(searches["strategy"]):
        own = searches[searches["strategy"] == name]
        close = own[own["value"] >= best - CLOSE].groupby("seed")["queries"].min()
        row: dict[str, object] = {"strategy": name, **_mean(values[name].to_numpy())}
        less = _mean((values[name] - values[BASELINE]).to_numpy(), "less_random")
        row |= {**less, **_mean((anytime[name] - anytime[BASELINE]).to_numpy(), "anytime")}
        row |= {"regret": best - values[name].mean(), "reached": len(close) / len(values)}
        row |= {"asked": own["asked"].mean(), "seconds": own["seconds"].mean()}
        rows.append(row)
    return pd.DataFrame(rows)


def to_text(summary: pd.DataFrame, setting: Setting, best: float) -> str:
    """The summary in Markdown."""
    head = ("strategy", f"after {setting.budget} networks", "less random search",
            "less random search, mean over all queries", "regret",
            f"searches within {CLOSE} of the best", "s of a core")  # fmt: skip
    lines = [" | ".join(head).join(("| ", " |")), "|" + "---|" * len(head)]
    for row in summary.to_dict("records"):
        is_baseline = row["strategy"] == BASELINE
        cells = (
            row["strategy"],
            f"{row['mean']:.4f} ({row['low']:.4f} to {row['high']:.4f})",
            "-" if is_baseline else _signed(row, "less_random"),
            "-" if is_baseline else _signed(row, "anytime"),
            f"{row['regret']:.4f}",
            f"{100 * row['reached']:.0f} %",
            f"{row['seconds']:.1f}",
        )
        lines.append(" | ".join(cells).join(("| ", " |")))
    kind = "the mean over chips" if setting.exact else "one chip"
    lines += [
        "",
        f"{setting.objective}; a query is {kind}; the best of the table has {best:.4f}. "
        "Means over searches with 95 % intervals; differences are paired by seed.",
    ]
    return "\n".join(lines) + "\n"


def _signed(row: dict[str, float], name: str) -> str:
    return f"{row[name]:+.4f} ({row[f'{name}_low']:+.4f} to {row[f'{name}_high']:+.4f})"


def _mean(values: np.ndarray, name: str = "mean") -> dict[str, float]:
    """Mean with its t interval over searches."""
    prefix = "" if name == "mean" else f"{name}_"
    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * stats.sem(values))
    mean = float(values.mean())
    return {name: mean, f"{prefix}low": mean - half, f"{prefix}high": mean + half}


_LOADED: dict[Path | None, Bench] = {}


def _bench(setting: Setting) -> Bench:
    """The table, read once in each process."""
    if setting.path not in _LOADED:
        _LOADED[setting.path] = load(setting.path)
    return _LOADED[setting.path]


def _check(bench: Bench, setting: Setting) -> None:
    there, wanted = len(bench.networks(setting.task)), sum(1 for _ in bench.space.enumerate())
    if there < wanted:
        raise SystemExit(
            f"{bench.path} holds {there} of the {wanted} networks of its space: a search would ask "
            "for the others; finish the table with experiments/medbench.py"
        )
    if setting.budget > there:
        raise SystemExit(f"--budget {setting.budget}: the table has {there} networks")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="the shipped one by default")
    parser.add_argument("--task", help="of the table; that with most networks by default")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--objective", default="dice_1d")
    parser.add_argument("--budget", type=int, default=60, help="different networks a search")
    parser.add_argument("--seeds", type=int, default=50, help="searches of each strategy")
    parser.add_argument("--exact", action="store_true", help="queries give the mean over chips")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
