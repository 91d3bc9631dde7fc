"""The tables of run folders as tables of a page."""

from typing import Any

import pandas as pd

from analogmed.report.names import model_name, place_name, training_name
from analogmed.report.page_tables import UNKNOWN, PageTable, number, p_text, with_interval
from analogmed.report.plain_text import records
from analogmed.report.style import age, count_range, time_label
from analogmed.report.tables import column_head, cost_rows, cost_tables, cost_text

Row = dict[str, Any]

ONE_DAY_S = 86_400.0
ESTIMATES = {
    "dice_own_digital": "run digitally",
    "dice_t0": "t0",
    "dice_1d": "1 day",
    "dice_1mo": "1 month",
    "normalised_dice_1d": "kept after 1 day",
    "gain_1d": "gain of training",
}
MORE_ESTIMATES = {
    "dice_1d_std": "spread of chips",
    "noise_drop": "lost at t0",
    "drop_1d": "lost in 1 day",
    "drop_1mo": "lost in 1 month",
    "avm": "1 month minus 1 s",
}
METRICS = {
    ("dice", "image"): "Dice",
    ("mean_variance", "band"): "variance",
    ("mean_entropy", "band"): "entropy (nats)",
    ("ece", "band"): "ECE",
    ("brier", "band"): "Brier",
    ("nll", "band"): "NLL",
    ("auroc_entropy", "band"): "AUROC of errors",
    ("aurc_entropy", "band"): "AURC",
}
COST_CAPTION = (
    "Utilisation: share of a tile's cells that hold a weight. Reuse: how often a tile multiplies a "
    "vector for one image. Both are means over tiles, over layers, and over all leaf modules, "
    "where transposed convolutions and modules without a tile count as 0."
)
_PARTS = {
    "mean_variance": "all",
    "mean_read_variance": "between reads",
    "mean_chip_variance": "between chips",
}


def summary_table(summary: pd.DataFrame, comparison: pd.DataFrame | None) -> PageTable:
    """Dice of each network, digitally and on the chip.

    Args:
        summary: ``summary.csv`` of an evaluation.
        comparison: ``comparison.csv``, whose adjusted p-value of a training against the digital one
            stands beside its gain.
    """
    shown = _measured(summary, ESTIMATES)
    p_values = {} if comparison is None else _against_digital(comparison)
    missed = bool(summary["missed"].notna().any())
    heads = ["network", *shown.values()]
    heads += ["p (Holm)"] * bool(p_values) + ["missed"] * missed
    rows = []
    for row in records(summary):
        cells = [_network(row, summary), *(_estimate(row, name) for name in shown)]
        if p_values:
            key = tuple(row[n] for n in ("task", "hardware", "model", "training"))
            cells.append(p_text(p_values.get(key, float("nan"))))
        rows.append((*cells, _missed(row)) if missed else tuple(cells))
    where = "" if _several(summary) else f" of {_place(records(summary)[0])}"
    level = 100 * float(summary["level"].iloc[0])
    caption = (
        f"Below each estimate its {level:.3g} % interval, from a two-way bootstrap over patients "
        f"and chips (run digitally: patients). {_n(summary)}. t0: right after programming. Kept: "
        "Dice on the chip divided by that of the digitally trained network run digitally. Gain of "
        "training: Dice on the chip after a day, less that of the digitally trained network."
    )
    caption += " p: of the gain, over patients, after Holm's correction." if p_values else ""
    caption += " Missed: structures of which nothing was found." if missed else ""
    return PageTable(f"Dice{where}", tuple(heads), tuple(rows), 1, caption)


def losses_table(summary: pd.DataFrame) -> PageTable:
    """What each network loses, and how far chips differ."""
    shown = _measured(summary, MORE_ESTIMATES)
    rows = tuple(
        (_network(row, summary), *(_estimate(row, name) for name in shown))
        for row in records(summary)
    )
    return PageTable("The numbers of this figure", ("network", *shown.values()), rows)


def comparison_table(comparison: pd.DataFrame) -> PageTable:
    """Every network against every other one."""
    rows = [
        (
            _called(row),
            _called({"model": row["other_model"], "training": row["other_training"]}),
            with_interval(row["difference"], row["low"], row["high"]),
            p_text(row["p_value"]),
            p_text(row["p_holm"]),
        )
        for row in records(comparison)
    ]
    time_s = float(comparison["time_s"].iloc[0])
    return PageTable(
        f"Every pair of networks, {age(time_s)}",
        ("network", "less this one", "difference", "p", "p (Holm)"),
        tuple(rows),
        2,
        "p: sign-flip test over patients, and with Holm's correction for "
        f"{count_range([len(rows)], 'pair')}. Intervals count chips too. {_n(comparison)}.",
    )


def curves_table(curves: pd.DataFrame) -> PageTable:
    """Dice of each network at each time."""
    times_s = sorted(curves["time_s"].dropna().unique())
    keys = ["task", "model", "training"]
    rows = []
    for key, part in curves.groupby(keys, sort=False):
        at = {row["time_s"]: row for row in records(part.dropna(subset="time_s"))}
        digital = records(part[part["time_s"].isna()])
        found = [digital[0] if digital else None, *(at.get(time_s) for time_s in times_s)]
        cells = [UNKNOWN if r is None else _of_interval(r) for r in found]
        name = _called({"model": str(key[1]), "training": str(key[2])})
        rows.append((name, *cells))
    heads = ("network", "run digitally", *map(time_label, times_s))
    return PageTable("The numbers of this figure", heads, tuple(rows))


def failure_table(failures: pd.DataFrame) -> PageTable:
    """How long each network holds a limit; the limit itself where there are several."""
    rows = []
    several = failures["limit"].nunique() > 1
    for row in records(failures):
        until_s, again = row["holds_until_s"], row["reprogram_every_s"]
        at_least = "at least " if row["censored"] else ""
        rows.append(
            (
                _called(row),
                *([number(row["limit"], 2)] if several else []),
                UNKNOWN if pd.isna(until_s) else time_label(until_s),
                "not in the sweep" if row["censored"] else time_label(row["fails_at_s"]),
                UNKNOWN if pd.isna(again) else at_least + time_label(again),
            )
        )
    heads = ("network", *(["limit"] if several else []), "holds until", "fails at")
    caption = (
        f"{UNKNOWN}: the lower end of the interval is under the limit at the first measured time "
        "already."
    )
    return PageTable(
        "Time to failure",
        (*heads, "program again every"),
        tuple(rows),
        caption=caption if failures["holds_until_s"].isna().any() else "",
    )


def cost_tables_of(summary: pd.DataFrame) -> tuple[PageTable, ...]:
    """Tiles, time and energy, where they were counted."""
    found = []
    for title, columns in cost_tables(summary):
        heads = ("model", *(" ".join(column_head(column).split()) for column in columns))
        rows = tuple(
            (model_name(row["model"]), *(cost_text(column, row[column]) for column in columns))
            for row in cost_rows(summary, columns)
        )
        caption = COST_CAPTION if any("utilisation_" in column for column in columns) else ""
        found.append(PageTable(title, heads, rows, caption=caption))
    return tuple(found)


def uncertainty_table(summary: pd.DataFrame, *, scaled: bool = False) -> PageTable:
    """How sure each network is, and how right.

    Args:
        summary: ``summary.csv`` of an uncertainty run.
        scaled: after temperature scaling, in place of without.
    """
    wanted = summary["source"].str.contains("+", regex=False) == scaled
    shown = {
        key: head
        for key, head in METRICS.items()
        if (wanted & (summary["metric"] == key[0]) & (summary["region"] == key[1])).any()
    }
    rows = []
    keys = ["model", "training", "source", "time_s"]
    for key, part in summary[wanted].groupby(keys, dropna=False, sort=False):
        found = {(row["metric"], row["region"]): row for row in records(part)}
        cells = [_of_metric(found.get(name)) for name in shown]
        name = _called({"model": str(key[0]), "training": str(key[1])})
        rows.append((name, _source(str(key[2])), _time(key[3]), *cells))
    heads = ("network", "passes", "time", *shown.values())
    caption = (
        "All but Dice in a band about the structure. Below each estimate its interval over "
        f"{count_range(summary['n_patients'].tolist(), 'patient')}. ECE: calibration error; AUROC: "
        "how well uncertainty finds wrong voxels; AURC: area under the risk-coverage curve."
    )
    title = "With a temperature fitted at each time" if scaled else "How sure, and how right"
    return PageTable(title, heads, tuple(rows), 3, caption)


def trainings_table(comparison: pd.DataFrame, time_s: float | None = None) -> PageTable:
    """Hardware-aware against digital training, on chips.

    Args:
        comparison: ``comparison.csv`` of an uncertainty run.
        time_s: age of the chips; all by default.
    """
    chosen = _on_chips(comparison)
    chosen = chosen if time_s is None else chosen[chosen["time_s"] == time_s]
    corrected = "p_holm" in comparison
    rows = [
        (
            model_name(row["model"]) + ("" if time_s is not None else f", {_time(row['time_s'])}"),
            METRICS.get((row["metric"], row["region"]), str(row["metric"]).replace("_", " ")),
            number(row["digital"], _digits(row)),
            number(row["hwa"], _digits(row)),
            with_interval(
                row["difference"], row["difference_low"], row["difference_high"], _digits(row)
            ),
            p_text(row["p_holm" if corrected else "p_value"]),
        )
        for row in records(chosen)
    ]
    heads = ("model", "in the band", "digital", "hardware-aware", "difference")
    caption = "p: permutation test over patients" + (
        ", with Holm's correction for the number of models, but not for that of metrics and times."
        if corrected
        else ", not corrected for the number of rows."
    )
    when = "at all times" if time_s is None else age(time_s)
    return PageTable(
        f"Hardware-aware minus digital training, {when}",
        (*heads, "p (Holm)" if corrected else "p"),
        tuple(rows),
        2,
        caption,
    )


def time_to_look_at(comparison: pd.DataFrame) -> float | None:
    """A day after programming, or else the last time; ``None`` without a chip."""
    times_s = _on_chips(comparison)["time_s"].dropna()
    if times_s.empty:
        return None
    return ONE_DAY_S if (times_s == ONE_DAY_S).any() else float(times_s.max())


def split_table(summary: pd.DataFrame) -> PageTable:
    """Variance of the probability by its origin; without rows where it was not split."""
    chips = summary[(summary["source"] == "chips") & (summary["region"] == "band")]
    rows = []
    for key, part in chips.groupby(["model", "training", "time_s"], sort=False):
        found = {row["metric"]: row for row in records(part)}
        if "mean_read_variance" in found and "mean_chip_variance" in found:
            cells = [_of_metric(found.get(name)) for name in _PARTS]
            name = _called({"model": str(key[0]), "training": str(key[1])})
            rows.append((name, _time(key[2]), *cells))
    return PageTable(
        "Variance of the probability, about the structure",
        ("network", "time", *_PARTS.values()),
        tuple(rows),
        2,
        "Between reads of one chip: read noise. Between chips: programming noise.",
    )


def conformal_table(summary: pd.DataFrame) -> PageTable:
    """What conformal masks miss."""
    ways = {"digital": "digitally", "first": "at the first time", "each": "at this time"}
    rows = tuple(
        (
            _called(row),
            str(row["class"]),
            ways.get(row["calibrated"], str(row["calibrated"])),
            _time(row["time_s"]),
            with_interval(row["fnr"], row["fnr_low"], row["fnr_high"]),
            number(row["volume_ratio"], 2),
            "marks all" if row["trivial"] else str(row["kept"]),
        )
        for row in records(summary)
    )
    heads = ("network", "class", "threshold set", "used", "share missed", "marked / true", "kept")
    title = f"At most {100 * float(summary['alpha'].iloc[0]):g} % of a structure missed?"
    return PageTable(title, heads, rows, 4)


def mitigation_table(summary: pd.DataFrame) -> PageTable:
    """What each correction buys at each time, and what it costs."""
    costs = {"images": "images", "labelled_images": "labelled images", "passes": "passes"}
    costs = {name: head for name, head in costs.items() if name in summary}
    shown = {"dice": "Dice", "ece_band": "ECE, band", "nll_band": "NLL, band"}
    shown = {name: head for name, head in shown.items() if (summary["metric"] == name).any()}
    rows = []
    keys = ["model", "training", "time_s", "option"]
    for key, part in summary.groupby(keys, sort=False):
        found = {row["metric"]: row for row in records(part)}
        gain = found["dice"]
        gained = with_interval(gain["gain"], gain["gain_low"], gain["gain_high"])
        values = [number(found[name]["value"]) if name in found else UNKNOWN for name in shown]
        rows.append(
            (
                _called({"model": str(key[0]), "training": str(key[1])}),
                _time(key[2]),
                str(key[3]).replace("_", " "),
                *values,
                gained,
                *(str(gain[name]) for name in costs),
            )
        )
    heads = ("network", "time", "correction", *shown.values(), "Dice gained", *costs.values())
    return PageTable("Corrections of a programmed chip", heads, tuple(rows), 3)


def placement_table(steps: pd.DataFrame) -> PageTable:
    """Every placement that was run."""
    rows = tuple(
        (
            str(row["layer"]) or "(all analog)",
            "chosen" if row["chosen"] else "kept" if row["kept"] else "",
            str(row["digital_layers"]),
            with_interval(row["drop"], row["drop_low"], row["drop_high"]),
            number(row["latency_ms"]),
            number(row["energy_mj"]),
            str(row["tiles"]),
        )
        for row in records(steps)
    )
    heads = ("layer moved", "", "digital layers", "Dice lost", "ms", "mJ", "tiles")
    return PageTable("Placements", heads, rows, 2, "Time and energy of one slice, estimated.")


def sensitivity_table(ranking: pd.DataFrame) -> PageTable:
    """Layers and noise sources by what they cost, at the last time."""
    names = {
        "only_analog": "only this layer analog",
        "only_digital": "only this layer digital",
        "noise_alone": "only this noise source",
        "noise_all_but": "all noise sources but this",
    }
    time_s = float(ranking["time_s"].max())
    last = ranking[(ranking["time_s"] == time_s) & ranking["setting"].isin(list(names))]
    rows = tuple(
        (
            names[row["setting"]],
            str(row["subject"]),
            with_interval(row["effect"], row["effect_low"], row["effect_high"]),
        )
        for row in records(last.sort_values(["setting", "rank"]))
    )
    heads = ("setting", "layer or source", "Dice lost or regained")
    return PageTable(f"The numbers, {time_label(time_s)}", heads, rows, 2)


def _against_digital(comparison: pd.DataFrame) -> dict[tuple[Any, ...], float]:
    """Adjusted p-value of each training against the digital one of the same model."""
    found: dict[tuple[Any, ...], float] = {}
    for row in records(comparison):
        trainings = {row["training"], row["other_training"]}
        if row["model"] == row["other_model"] and "digital" in trainings and len(trainings) == 2:
            (training,) = trainings - {"digital"}
            key = (row["task"], row["hardware"], row["model"], training)
            found[key] = row["p_holm"]
    return found


def _on_chips(comparison: pd.DataFrame) -> pd.DataFrame:
    """Rows on chips, in the band about the structure; Dice of the whole image."""
    place = (comparison["region"] == "band") | (comparison["metric"] == "dice")
    return comparison[(comparison["source"] == "chips") & place]


def _measured(summary: pd.DataFrame, names: dict[str, str]) -> dict[str, str]:
    return {n: h for n, h in names.items() if n in summary and summary[n].notna().any()}


def _several(summary: pd.DataFrame) -> bool:
    return len(summary[["task", "hardware"]].drop_duplicates()) > 1


def _place(row: Row) -> str:
    return place_name(str(row["task"]), str(row["hardware"]))


def _network(row: Row, summary: pd.DataFrame) -> str:
    """A network, and where it was run if this differs."""
    where = f"{_place(row)}: " if _several(summary) else ""
    return where + _called(row)


def _called(row: Row) -> str:
    return f"{model_name(row['model'])}, {training_name(row['training'])}"


def _estimate(row: Row, name: str) -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _of_interval(row: Row) -> str:
    return with_interval(row["estimate"], row["low"], row["high"])


def _of_metric(row: Row | None) -> str:
    if row is None:
        return UNKNOWN
    return with_interval(row["estimate"], row["low"], row["high"], _digits(row))


def _digits(row: Row) -> int:
    return 5 if "variance" in str(row["metric"]) else 3


def _missed(row: Row) -> str:
    known = not pd.isna(row["missed"])
    return f"{int(row['missed'])} of {int(row['missed_of'])}" if known else UNKNOWN


def _source(source: str) -> str:
    names = {"deterministic": "one, digital", "mc_dropout": "dropout"}
    name, plus, scaled = source.partition("+")
    return names.get(name, name) + (f" + {scaled}" if plus else "")


def _time(time_s: Any) -> str:
    return "digital" if pd.isna(time_s) else time_label(float(time_s))


def _n(rows: pd.DataFrame) -> str:
    patients = count_range([int(n) for n in rows["n_patients"]], "patient")
    return f"{patients}, {count_range([int(n) for n in rows['n_chips']], 'chip')}"
