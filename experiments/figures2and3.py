"""Uncertainty on the chip by training: Figures 2 and 3 of Hamzaoui et al.

    python experiments/figures2and3.py                            # shipped networks, brain phantom
    python experiments/figures2and3.py --trained runs/figure1     # figure1.py's, on three phantoms
    python experiments/figures2and3.py --real lgg=data/lgg        # figure1.py's, on real data
    python experiments/figures2and3.py --real lgg=data/lgg --checkpoints a.safetensors b.safetensors

Compares digitally trained and hardware-aware trained networks, each read many times on the same
chips. Figure 2 shows the uncertainty on example slices of each network, and figure 3 its density
over the whole test set. The tables report calibration and error detection. Options that are not
listed below are passed to `python -m analogmed.uncertainty`, for instance `--hardware hermes`.
"""

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
from _programs import in_parallel, markdown, run_program, with_interval
from figure1 import PHANTOMS, REAL

from analogmed.evaluation.preparation import shipped_folder
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.strict_yaml import read_yaml
from analogmed.foundation.time_constants import time_label
from analogmed.report.figures.maps import read_examples, uncertainty_maps
from analogmed.report.figures.uncertainty import (
    reliability_diagram,
    risk_coverage_curves,
    uncertainty_density,
)
from analogmed.report.names import TRAINING_NAMES
from analogmed.report.text import level_of, patients_of
from analogmed.tables.table import Table
from analogmed.tables.uncertainty import COMPARISON, DENSITY, RELIABILITY, RISK_COVERAGE, SUMMARY
from analogmed.training import load_checkpoint

DAY_S = 86_400.0
SHIPPED = "phantom_brain"
REAL_NETWORKS = Path("runs/figure1-real")
MODELS = ("unetpp", "swin_unetr")
"""Models of the paper's figures: figure 2 shows the first one, figure 3 both."""
MEASURES = {
    "mean_variance": "variance x 1000",
    "ece": "ECE",
    "nll": "NLL",
    "brier": "Brier",
    "auroc_entropy": "AUROC of errors",
    "dice": "Dice",
}
REGIONS = {"band": "Band about the structure", "image": "Whole image"}
CURVES = {
    "figure3": (DENSITY, uncertainty_density),
    "reliability": (RELIABILITY, reliability_diagram),
    "risk_coverage": (RISK_COVERAGE, risk_coverage_curves),
}


def main() -> None:
    arguments, settings = _arguments()
    tasks = _tasks(arguments)
    pairs = [(task, model) for model, task in product(arguments.models, tasks)]

    def run(pair: tuple[str, str]) -> Path:
        return run_one(pair[0], tasks[pair[0]], pair[1], arguments, settings)

    runs = dict(zip(pairs, in_parallel(run, pairs, arguments.workers), strict=True))
    chapters = []
    for task in tasks:
        folders = [runs[task, model] for model in arguments.models]
        drawn = draw(task, folders, arguments.out)
        pictures = "\n\n".join(f"![{path.stem}]({path.name})" for path in drawn)
        chapters.append(f"## {task}\n\n{tables(folders)}\n{pictures}\n")
    text = "\n".join(chapters)
    write_text_atomically(arguments.out / "table.md", text)
    print(f"{text}\ntables and figures: {arguments.out}/")


def run_one(
    task: str, data: dict[str, str], model: str, arguments: argparse.Namespace, settings: list[str]
) -> Path:
    """Read a model's two trainings many times on the same chips, and return the run folder."""
    out: Path = arguments.out / task / model
    if arguments.redraw and (out / "comparison.csv").exists():
        return out
    networks = ", ".join(map(str, _networks(task, model, arguments)))
    run_program(
        "uncertainty",
        [
            *(f"--task={task}", *(f"--task.{key}={value}" for key, value in data.items())),
            *(f"--checkpoints=[{networks}]", "--sources=[deterministic, chips]"),
            *(f"--sweep.chips={arguments.chips}", f"--sweep.reads={arguments.reads}"),
            *("--temperature=false", "--conformal_cases=leave_one_out", "--batch_size=32"),
            *(*settings, f"--out={out}"),
        ],
    )
    return out


def draw(task: str, folders: list[Path], out: Path) -> list[Path]:
    """Draw figure 2 per model, after one day if measured, and figure 3 of all models."""
    drawn = []
    for folder in folders:
        arrays, index = read_examples(folder)
        index = index[index["source"] == "chips"]
        time_s = DAY_S if (index["time_s"] == DAY_S).any() else index["time_s"].max()
        rows = index[index["time_s"] == time_s]
        path = out / f"figure2_{task}_{folder.name}.png"
        drawn.append(uncertainty_maps(arrays, rows, path))
    for name, (table, draw_curves) in CURVES.items():
        rows = pd.concat([table.read(folder) for folder in folders])
        drawn.append(draw_curves(rows, out / f"{name}_{task}.png"))
    return drawn


def tables(folders: list[Path]) -> str:
    """Return the results as text, as differences and as values, in Markdown."""
    comparison, summary = (
        pd.concat([_read(folder, table) for folder in folders]) for table in (COMPARISON, SUMMARY)
    )
    sweep = read_yaml(folders[0] / "experiment.yaml")["sweep"]
    text = (
        f"{patients_of(comparison)}, {sweep['chips']} chips of {sweep['reads']} reads; "
        f"{level_of(comparison)} intervals over patients, not corrected for their number.\n"
    )
    for region, title in REGIONS.items():
        differences = comparison[comparison["region"] == region]
        values = summary[summary["region"] == region]
        if region == "band":
            text += f"\n{findings(differences)}"
        text += f"\n### {title}\n\nHardware-aware minus digital training:\n\n"
        text += markdown(difference_table(differences))
        text += f"\nEach training:\n\n{markdown(value_table(values))}"
    return text


def findings(comparison: pd.DataFrame) -> str:
    """Return one line per model and time: measures that are lower, higher, or neither."""
    lines = []
    for (model, time_s), rows in comparison.groupby(["model", "time_s"], sort=False):
        said: dict[str, list[str]] = {"lower": [], "higher": [], "not distinguishable": []}
        for row in rows.itertuples():
            name = MEASURES[row.metric].removesuffix(" x 1000")
            where = "lower" if row.difference_high < 0 else "not distinguishable"
            said["higher" if row.difference_low > 0 else where].append(name)
        parts = [f"{word}: {', '.join(names)}" for word, names in said.items() if names]
        lines.append(f"- {model}, hardware-aware, {time_label(time_s)}: {'; '.join(parts)}")
    return "\n".join(lines) + "\n"


def difference_table(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model and measure, with one column per time."""
    lines = []
    for (model, metric), rows in comparison.groupby(["model", "metric"], sort=False):
        cells = {
            time_label(row.time_s): _cell(
                metric, row.difference, row.difference_low, row.difference_high, sign="+"
            )
            for row in rows.itertuples()
        }
        lines.append({"network": model, "measure": MEASURES[metric], **cells})
    return pd.DataFrame(lines)


def value_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model, measure and time, with one column per training."""
    lines = []
    keys = ["model", "metric", "time_s"]
    for (model, metric, time_s), rows in summary.groupby(keys, sort=False, dropna=False):
        by_training = {row.training: row for row in rows.itertuples()}
        cells = {
            name: _cell(metric, row.estimate, row.low, row.high)
            for training, name in TRAINING_NAMES.items()
            if (row := by_training.get(training)) is not None
        }
        when = "run digitally" if pd.isna(time_s) else f"chips at {time_label(time_s)}"
        lines.append({"network": model, "measure": MEASURES[metric], "run": when, **cells})
    return pd.DataFrame(lines)


def _read(folder: Path, table: Table) -> pd.DataFrame:
    """Return the rows of a run's table that are shown, sorted by measure."""
    rows = table.read(folder)
    sources = ["chips"] if table is COMPARISON else ["deterministic", "chips"]
    shown = rows[rows["source"].isin(sources) & rows["metric"].isin(MEASURES)]
    return shown.sort_values(
        "metric", key=lambda names: names.map(list(MEASURES).index), kind="stable"
    )


def _cell(metric: str, estimate: float, low: float, high: float, *, sign: str = "") -> str:
    factor = 1000.0 if metric == "mean_variance" else 1.0
    number, form = factor * estimate, f"{sign}.3f"
    if pd.isna(low):
        return f"{number:{form}}"
    return with_interval(number, factor * low, factor * high, form)


def _tasks(arguments: argparse.Namespace) -> dict[str, dict[str, str]]:
    if arguments.real:
        roots = dict(pair.split("=", 1) for pair in arguments.real)
        return {name: {**REAL[name], "root": root} for name, root in roots.items()}
    return PHANTOMS if arguments.trained else {SHIPPED: {}}


def _networks(task: str, model: str, arguments: argparse.Namespace) -> list[Path]:
    """Return the checkpoints of a model: given, from runs of figure1.py, or shipped."""
    if arguments.checkpoints:
        given = arguments.checkpoints
        return [path for path in given if load_checkpoint(path).info.model == model]
    trained = arguments.trained or (REAL_NETWORKS if arguments.real else None)
    if trained is None:
        shipped = shipped_folder(SHIPPED)
        return [shipped / f"{model}-{training}.safetensors" for training in TRAINING_NAMES]
    folders = [trained / task / model / training for training in TRAINING_NAMES]
    for folder in folders:
        if not folder.is_dir():
            raise SystemExit(f"{folder}: there is no network; experiments/figure1.py trains it")
    return folders


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--real", nargs="*", default=[], metavar="TASK=ROOT", help=f"of {', '.join(REAL)}"
    )
    parser.add_argument(
        "--trained",
        type=Path,
        help=f"folder of TASK/MODEL/{{digital,hwa}} ({REAL_NETWORKS} with --real)",
    )
    parser.add_argument("--checkpoints", nargs="*", type=Path, help="networks of all models")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--reads", type=int, default=4)
    parser.add_argument("--redraw", action="store_true", help="take the runs that are there")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/figures2and3"))
    return parser.parse_known_args()


if __name__ == "__main__":
    main()
