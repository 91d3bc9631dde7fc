"""Rank agreement of networks: digital and on chips, across seeds and tasks, by shared weights.

    python experiments/ranking.py [--out runs/ranking]              # from the benchmark table alone
    python experiments/ranking.py --train                           # and three supernetworks
    python experiments/ranking.py --traces SPOS=DIR FairNAS=DIR ... # or existing supernetworks

Agreement is measured by Kendall's tau-b of all networks, tau-b among the networks of either top
list, and the Jaccard index of the top lists, with bootstrap 95 % intervals over networks. Output in
OUT: ranking.csv and ranking.md (digital against one day on chips, and the ceiling, i.e. agreement
between two seeds), digital_and_day.png, tasks.csv, tasks_tau.png and tasks_top.png (between tasks),
training.csv and training.png (shared weights against stand-alone training, over the training of the
supernetwork).
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from _programs import with_interval, write_table
from _supernets import EPOCHS, RULES, train_supernet

from analogmed.foundation.files import write_text_atomically
from analogmed.models import Genotype
from analogmed.report.figures.ranking import rank_scatter, task_heat_map, tau_over_training
from analogmed.report.text_table import pipe_table
from analogmed.search.benchmark.rank_agreement import Estimate, agreement_matrix, rank_agreement
from analogmed.search.benchmark.table import BenchmarkTable, load
from analogmed.tables.search import TRACE

TOP_SHARE = 0.1  # share of the networks in a top list
SCORES = {
    "digital": ("digital", "dice_digital"),
    "1 day": ("hwa", "dice_1d"),
    "digitally trained, 1 day": ("digital", "dice_1d"),
    "hardware-aware, digital": ("hwa", "dice_digital"),
    "hardware-aware, right after programming": ("hwa", "dice_t0"),
    "hardware-aware, 1 month": ("hwa", "dice_1mo"),
}
COMPARED = (
    ("digital", "1 day"),
    ("digital", "digitally trained, 1 day"),
    ("digital", "hardware-aware, digital"),
    ("hardware-aware, digital", "1 day"),
    ("hardware-aware, right after programming", "1 day"),
    ("1 day", "hardware-aware, 1 month"),
)


def main(arguments: list[str] | None = None) -> None:
    """Compute, write and print all agreements for which there are data."""
    given = _arguments(arguments)
    bench, out = load(given.table), given.out
    task = given.task or bench.tasks[0]
    rows = [*_of_scores(bench, given), *_of_seeds(bench, task, given)]
    tables = {"ranking": pd.DataFrame(rows)}
    if len(bench.tasks) > 1:
        tables["tasks"] = between_tasks(bench, given)
    traces = dict(pair.split("=", 1) for pair in given.traces)
    if given.train:
        traces |= train_supernets(bench, task, given)
    if traces:
        tables["training"] = over_training(bench, task, traces, given)
    for name, table in tables.items():
        write_table(out, name, table)
    text = to_text(tables)
    write_text_atomically(out / "ranking.md", text)
    draw(bench, task, tables, out, given)
    print(text)


def scores_of(bench: BenchmarkTable, task: str, name: str, seed: int | None = None) -> pd.Series:
    """Return the scores of all networks by their key."""
    training, metric = SCORES[name]
    return bench.networks(task, training=training, seed=seed)[metric]


def _of_scores(bench: BenchmarkTable, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the agreement of pairs of scores, of the same networks on the same task."""
    for task in bench.tasks:
        for one, other in COMPARED:
            pair = pd.concat([scores_of(bench, task, name) for name in (one, other)], axis=1)
            yield {"task": task, "one": one, "other": other, **_agreements(pair, given)}


def _of_seeds(
    bench: BenchmarkTable, task: str, given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield the ceiling: agreement of the same score between two training seeds."""
    first, *others = bench.seeds(task)
    for seed in others:
        for name in ("digital", "1 day"):
            scores = [scores_of(bench, task, name, number) for number in (first, seed)]
            named = {"one": f"{name}, seed {first}", "other": f"{name}, seed {seed}"}
            yield {"task": task, **named, **_agreements(pd.concat(scores, axis=1), given)}


def between_tasks(bench: BenchmarkTable, given: argparse.Namespace) -> pd.DataFrame:
    """Return the agreement of every two tasks on the networks that both have."""
    parts = []
    for name in ("1 day", "digital"):
        scores = pd.DataFrame({task: scores_of(bench, task, name) for task in bench.tasks})
        shared = scores.dropna()
        k = _top(len(shared))
        for kind, settings in (("tau", {}), ("top overlap", {"k": k, "overlap": True})):
            matrix = agreement_matrix(shared, n_boot=given.n_boot, **settings)
            parts.append(matrix.assign(score=name, statistic=kind, k=k))
    return pd.concat(parts)


def over_training(
    bench: BenchmarkTable, task: str, traces: dict[str, str], given: argparse.Namespace
) -> pd.DataFrame:
    """Return tau between shared-weight and stand-alone scores, after each traced epoch."""
    rows = []
    for rule, folder in traces.items():
        trace = TRACE.read(Path(folder))
        trace = trace.drop_duplicates(["epoch", "genotype"])  # sampled twice from a small space
        keys = trace["genotype"].map(lambda text: Genotype.of(text).key)
        for name in ("digital", "1 day"):
            stand_alone = keys.map(scores_of(bench, task, name))
            for epoch, part in trace.groupby("epoch"):
                found = _agreement(part["score"], stand_alone[part.index], given)
                rows.append({"rule": rule, "epoch": epoch, "score": name, **_columns(found)})
    return pd.DataFrame(rows)


def train_supernets(bench: BenchmarkTable, task: str, given: argparse.Namespace) -> dict[str, str]:
    """Train a supernetwork per rule on the table's space and data; return their folders."""
    every = max(1, given.epochs // given.points)
    folders = {rule: given.out / "supernets" / rule for rule in given.rules}
    for rule, folder in folders.items():
        train_supernet(
            bench, task, folder, rule=rule, epochs=given.epochs,
            trace=given.networks, trace_every=every,
        )  # fmt: skip
    return {rule: str(folder) for rule, folder in folders.items()}


def draw(
    bench: BenchmarkTable,
    task: str,
    tables: dict[str, pd.DataFrame],
    out: Path,
    given: argparse.Namespace,
) -> None:
    """Draw all figures."""
    scores = pd.concat([scores_of(bench, task, name) for name in ("digital", "1 day")], axis=1)
    tau = asdict(_agreement(scores.iloc[:, 0], scores.iloc[:, 1], given))
    rank_scatter(
        scores.dropna(), out / "digital_and_day.png", agreement=tau, k=_top(len(scores.dropna()))
    )
    if "tasks" in tables:
        table = tables["tasks"][tables["tasks"]["score"] == "1 day"]
        taus, tops = (table[table["statistic"] == kind] for kind in ("tau", "top overlap"))
        task_heat_map(taus, out / "tasks_tau.png")
        label = f"Jaccard index\nof the top-{int(tops['k'].iloc[0])} lists"
        task_heat_map(tops, out / "tasks_top.png", label=label, least=0)
    if "training" in tables:
        table = tables["training"][tables["training"]["score"] == "digital"]
        tau_over_training(table, out / "training.png", ceiling=_ceiling(tables["ranking"]))


def to_text(tables: dict[str, pd.DataFrame]) -> str:
    """Return all tables in Markdown."""
    heads = [
        *("task", "rank by", "and by", "tau-b", "tau-b of the top lists", "top lists' Jaccard"),
        "n",
    ]
    rows = []
    for row in tables["ranking"].to_dict("records"):
        cells = [_interval(row, prefix) for prefix in ("", "top_tau_", "top_overlap_")]
        names = [row["task"], row["one"], row["other"]]
        rows.append([*names, *cells, str(row["n"])])
    parts = [pipe_table(heads, rows, len(heads))]
    if "tasks" in tables:
        heads, rows = ["task", "and task", "score", "statistic", "value", "n"], []
        table = tables["tasks"]
        for row in table[table["one"] < table["other"]].to_dict("records"):
            what = row["statistic"] + (
                "" if row["statistic"] == "tau" else f", {row['k']} networks"
            )
            names = [row["one"], row["other"], row["score"], what]
            rows.append([*names, _interval(row, ""), str(row["n"])])
        parts.append(pipe_table(heads, rows, len(heads)))
    if "training" in tables:
        heads, rows = ["rule", "epoch", "stand-alone score", "tau-b", "n"], []
        last = tables["training"].groupby(["rule", "score"], sort=False).tail(1)
        for row in last.to_dict("records"):
            names = [row["rule"], str(row["epoch"]), row["score"], _interval(row, "")]
            rows.append([*names, str(row["n"])])
        parts.append(pipe_table(heads, rows, len(heads)))
    return "\n\n".join(parts) + "\n"


def _agreements(pair: pd.DataFrame, given: argparse.Namespace) -> dict[str, Any]:
    both = pair.dropna()
    one, other, k = both.iloc[:, 0], both.iloc[:, 1], _top(len(both))
    found = _columns(_agreement(one, other, given)) | {"k": k}
    for name, settings in (("top_tau", {"k": k}), ("top_overlap", {"k": k, "overlap": True})):
        estimate = _agreement(one, other, given, **settings)
        found |= {f"{name}_{end}": value for end, value in _columns(estimate).items() if end != "n"}
    return found


def _agreement(
    one: pd.Series, other: pd.Series, given: argparse.Namespace, **settings: Any
) -> Estimate:
    return rank_agreement(
        one.to_numpy(float), other.to_numpy(float), n_boot=given.n_boot, **settings
    )


def _columns(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _top(n: int) -> int:
    return min(n, max(5, round(TOP_SHARE * n)))


def _ceiling(ranking: pd.DataFrame) -> dict[str, float] | None:
    """Return tau between two seeds of digital training; ``None`` if the table has only one."""
    rows = ranking[ranking["one"].str.startswith("digital, seed")]
    return (
        None if rows.empty else {end: float(rows[end].iloc[0]) for end in ("value", "low", "high")}
    )


def _interval(row: dict[str, Any], prefix: str) -> str:
    return with_interval(*(row[f"{prefix}{end}"] for end in ("value", "low", "high")), ".2f")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="the shipped one by default")
    parser.add_argument("--task", help="of the table; that with most networks by default")
    parser.add_argument("--train", action="store_true", help="supernetworks, by each rule")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of supernetworks")
    parser.add_argument("--networks", type=int, default=60, help="whose scores are traced")
    parser.add_argument("--points", type=int, default=10, help="of a trace")
    parser.add_argument("--traces", nargs="*", default=[], metavar="RULE=DIR")
    parser.add_argument("--n-boot", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/ranking"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
