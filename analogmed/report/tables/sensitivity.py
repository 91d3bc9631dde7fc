"""Effects of layers, noise sources and placements as text for the terminal."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from analogmed.report.figures.style import count_range, time_label
from analogmed.report.text import printed, records
from analogmed.tables.table import require_columns

WIDTH = 120
UNKNOWN = "\u2013"
TITLES = {
    "only_analog": "Only this layer analog: Dice lost against digital",
    "only_digital": "Only this layer digital: Dice regained against all layers analog",
    "noise_alone": "Only this noise source: Dice lost against digital",
    "noise_all_but": "All noise sources but this: Dice regained against all",
}
CONTROLS = {"all_analog": "whole network analog", "no_noise": "no noise source"}


def render_sensitivity(ranking: pd.DataFrame, *, most: int = 8) -> str:
    """Return the first lines of the rankings at the latest evaluated time.

    Args:
        ranking: result of ``analogmed.evaluation.studies.sensitivity.ranking.rank``.
        most: largest number of lines per ranking.

    Returns:
        plain text, at most 120 columns wide.

    Raises:
        DataError: a column is missing.
    """
    require_columns(ranking, ["setting", "subject", "time_s", "rank", "effect", "n_patients"])
    time_s = float(ranking["time_s"].max())
    last = ranking[ranking["time_s"] == time_s]
    parts = []
    for kind, title in TITLES.items():
        rows = last[last["setting"] == kind].sort_values("rank")
        if rows.empty:
            continue
        lines = [
            [
                str(row["rank"]),
                str(row["subject"]),
                _estimate(row, "effect"),
                _estimate(row, "drop"),
            ]
            for row in records(rows.head(most))
        ]
        heads = ["rank", "layer" if "layer" in title else "source", "effect", "lost in all"]
        parts.append(_render(f"{title}, {time_label(time_s)}", heads, lines))
        if len(rows) > most:
            parts.append(f"   and {len(rows) - most} more, in ranking.csv\n")
    for row in records(last[last["setting"].isin(list(CONTROLS))]):
        parts.append(f"{CONTROLS[row['setting']]}: Dice lost {_estimate(row, 'drop')}\n")
    patients = count_range(ranking["n_patients"].tolist(), "patient")
    chips = count_range(ranking["n_chips"].tolist(), "chip")
    level = 100 * float(ranking["level"].iloc[0])
    parts.append(f"{patients}, {chips}; {level:.3g} % intervals of a two-way bootstrap.\n")
    return "".join(parts)


def render_placement(steps: pd.DataFrame) -> str:
    """Return one line per evaluated placement.

    Args:
        steps: ``analogmed.evaluation.studies.placement.study.PlacementResult.steps``.

    Raises:
        DataError: a column is missing.
    """
    costs = ["latency_ms", "energy_mj", "tiles"]
    require_columns(steps, ["layer", "digital_layers", "drop", "predicted_drop", "kept", *costs])
    lines = [
        [
            str(row["layer"]) or "(all analog)",
            str(row["digital_layers"]),
            _estimate(row, "drop"),
            f"{row['predicted_drop']:.3f}",
            f"{row['latency_ms']:.4g}",
            _number(row["energy_mj"]),
            f"{row['tiles']}",
            " ".join(
                word
                for word, there in (
                    ("kept", row["kept"]),
                    ("Pareto", row["pareto"]),
                    ("chosen", row["chosen"]),
                )
                if there
            ),
        ]
        for row in records(steps)
    ]
    place = f"{steps['profile'].iloc[0]}, level {steps['level_of_profile'].iloc[0]}"
    heads = ["digital too", "in all", "Dice lost", "predicted", "ms", "mJ", "tiles", ""]
    return _render(f"Placements; time and energy estimated for {place}", heads, lines)


def _render(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for index, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if index in (0, 1) else "right")
    for line in lines:
        table.add_row(*map(Text, line))
    return printed(table, width=WIDTH)


def _estimate(row: dict[str, Any], name: str) -> str:
    text = _decimals(row[name])
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return text if pd.isna(low) else f"{text} ({_decimals(low)} to {_decimals(high)})"


def _decimals(value: float) -> str:
    return UNKNOWN if pd.isna(value) else f"{value:.3f}".replace("-0.000", "0.000")


def _number(value: Any) -> str:
    return UNKNOWN if pd.isna(value) else f"{value:.4g}"
