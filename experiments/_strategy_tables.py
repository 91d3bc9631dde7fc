"""Result tables of searches on the benchmark table: curves, final results, Markdown."""

import numpy as np
import pandas as pd
from _programs import with_interval
from scipy import stats

from analogmed.report.text_table import pipe_table

BASELINE = "random"
LEVEL = 0.95
CLOSE = 0.005  # largest difference in Dice from the best network of the table


def curves_of(searches: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds after each query, with its t interval."""
    groups = searches.groupby(["strategy", "queries"], sort=False)["value"]
    rows = [
        {"strategy": name, "queries": queries, **_mean(values.to_numpy()), "seeds": len(values)}
        for (name, queries), values in groups
    ]
    return pd.DataFrame(rows)


def summary_of(searches: pd.DataFrame, best: float) -> pd.DataFrame:
    """Return one row per strategy after its last query; differences are paired by seed."""
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
        row |= {"budget": int(own["queries"].max())}
        row |= {"asked": own["asked"].mean(), "seconds": own["seconds"].mean()}
        rows.append(row)
    return pd.DataFrame(rows)


def strategies_text(summary: pd.DataFrame, objective: str, query: str, best: float) -> str:
    """Return the summary in Markdown.

    Args:
        summary: result of :func:`summary_of`.
        objective: metric that the searches optimised.
        query: description of the value that a query returns.
        best: best value in the table.
    """
    head = ("strategy", f"after {summary['budget'].iloc[0]} networks",
            "difference to random search",
            "difference to random search, mean over all queries", "regret",
            f"searches within {CLOSE} of the best", "s of a core")  # fmt: skip
    rows = []
    for row in summary.to_dict("records"):
        is_baseline = row["strategy"] == BASELINE
        cells = (
            row["strategy"],
            with_interval(row["mean"], row["low"], row["high"], ".4f"),
            "-" if is_baseline else _signed(row, "less_random"),
            "-" if is_baseline else _signed(row, "anytime"),
            f"{row['regret']:.4f}",
            f"{100 * row['reached']:.0f} %",
            f"{row['seconds']:.1f}",
        )
        rows.append(cells)
    return (
        f"{pipe_table(head, rows, len(head))}\n\n{objective}; a query is {query}; the best of the "
        f"table has {best:.4f}. Means over searches with 95 % intervals; differences are paired by "
        "seed.\n"
    )


def shared_weights_text(ranked: pd.DataFrame) -> str:
    """Return the rank agreement of the supernetworks in Markdown."""
    heads = ("supernetwork of", "by itself", "tau-b of shared weights", "networks")
    rows = [
        (
            *(str(row[name]) for name in ("task", "stand_alone")),
            with_interval(row["value"], row["low"], row["high"], ".2f"),
            str(row["n"]),
        )
        for row in ranked.to_dict("records")
    ]
    return pipe_table(heads, rows, len(heads)) + "\n"


def _signed(row: dict[str, float], name: str) -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], "+.4f")


def _mean(values: np.ndarray, name: str = "mean") -> dict[str, float]:
    """Return the mean with its t interval over searches."""
    prefix = "" if name == "mean" else f"{name}_"
    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * stats.sem(values))
    mean = float(values.mean())
    return {name: mean, f"{prefix}low": mean - half, f"{prefix}high": mean + half}
