"""Conformal risk control: required calibration patients, and validity of the guarantee under drift.

    python experiments/conformal_masks.py [--document docs/explanation/evidence/uncertainty.md]

Conformal masks of the shipped U-Nets miss at most a share alpha of a tumour in expectation, if the
calibration patients and the test patient are exchangeable. Here the phantom generates both, in
addition to the patients on which the networks were trained, selected and tested. The first table
contains the digital network, with thresholds from different numbers of calibration patients. The
second contains chips over time, with thresholds calibrated digitally, on each chip at the first
time, or on each chip at each time.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from _programs import markdown, with_interval, write_table

from analogmed.config import SweepConfig
from analogmed.data import Case, Sample, Task, load_task
from analogmed.evaluation.preparation import shipped_folder
from analogmed.evaluation.studies.uncertainty.conformal_table import (
    ConformalCounts,
    summarise_conformal,
)
from analogmed.evaluation.studies.uncertainty.passes import passes_of, predictions
from analogmed.evaluation.studies.uncertainty.settings import Source, UncertaintyConfig
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.time_constants import time_label
from analogmed.report.names import TRAINING_NAMES
from analogmed.report.text_table import replace_between
from analogmed.training import Checkpoint, load_checkpoint

SHIPPED = "phantom_brain"
SIZES = (9, 15, 20, 30, 40, 60)
WAYS = {"digital": "digitally", "first": "on each chip at t0", "each": "on each chip at each time"}


def main() -> None:
    """Run the networks, then print and write the tables of all finished runs."""
    given = _arguments()
    task = new_patients(given.calibration, given.test)
    samples = [task.read(case) for case in (*task.validation, *task.test)]
    for training in given.trainings:
        run_one(training, task, samples, given)
    sizes, summary = (
        pd.concat([pd.read_csv(path) for path in sorted(given.out.glob(f"{name}-*.csv"))])
        for name in ("sizes", "summary")
    )
    tables = {"conformal-sizes": size_table(sizes), "conformal": time_table(summary)}
    texts = {name: markdown(table) for name, table in tables.items()}
    if given.document:
        text = given.document.read_text(encoding="utf-8")
        for name, table in texts.items():
            text = replace_between(text, name, table.strip())
        write_text_atomically(given.document, text)
    print("\n".join(texts.values()))


def run_one(training: str, task: Task, samples: list[Sample], given: argparse.Namespace) -> None:
    """Calibrate thresholds with one network, test them, and write two tables."""
    checkpoint = load_checkpoint(shipped_folder(SHIPPED) / f"unet-{training}.safetensors")
    checkpoint.info.refuse_leakage(
        replace(task, test=(*task.validation, *task.test)), checkpoint.path
    )
    times_s = UncertaintyConfig().sweep.times_s
    config = UncertaintyConfig(
        sweep=SweepConfig(chips=given.chips, times_s=times_s, reads=1), alpha=given.alpha
    )
    run = {"task": task.name, "model": "unet", "training": training}
    ledger = ConformalCounts(task)
    observe(ledger, "deterministic", checkpoint, samples, task, config)
    sizes = pd.DataFrame([run | row for row in by_size(ledger, task, given.alpha, given.draws)])
    write_table(given.out, f"sizes-{training}", sizes)
    observe(ledger, "chips", checkpoint, samples, task, config)
    found = ledger.evaluate(
        _patients(task.validation), _patients(task.test), given.alpha, leave_one_out=False
    )
    summary = summarise_conformal(pd.DataFrame([run | row for row in found]), given.alpha)
    write_table(given.out, f"summary-{training}", summary)


def new_patients(n_calibration: int, n_test: int) -> Task:
    """Return the shipped task with new patients for calibration (validation split) and test.

    A patient of the phantom does not depend on the number of patients, so that those beyond the
    shipped number are new. The input ranges of chips are calibrated on the shipped training images.
    """
    shipped = load_task(SHIPPED)
    known = {case.patient_id for case in (*shipped.train, *shipped.validation, *shipped.test)}
    more = load_task(SHIPPED, phantom_patients=len(known) + n_calibration + n_test)
    cases = sorted((*more.train, *more.validation, *more.test), key=lambda case: case.patient_id)
    new = tuple(case for case in cases if case.patient_id not in known)
    return replace(shipped, validation=new[:n_calibration], test=new[n_calibration:])


def observe(
    ledger: ConformalCounts,
    source: Source,
    checkpoint: Checkpoint,
    samples: list[Sample],
    task: Task,
    config: UncertaintyConfig,
) -> None:
    """Record every case in every pass of a source."""
    make_passes = passes_of(source, [checkpoint], config, task)
    assert make_passes is not None
    for one in make_passes():
        for sample, prob in predictions(one, samples, task, config):
            ledger.observe(one, sample, prob)


def by_size(
    ledger: ConformalCounts, task: Task, alpha: float, draws: int
) -> list[dict[str, float]]:
    """Return mean missed share and volume ratio for random subsets of calibration patients."""
    pool, test = _patients(task.validation), _patients(task.test)
    generator = np.random.default_rng(0)
    rows = []
    for size in (size for size in SIZES if size <= len(pool)):
        for _ in range(draws if size < len(pool) else 1):
            chosen = list(generator.choice(pool, size, replace=False))
            found = pd.DataFrame(ledger.evaluate(chosen, test, alpha, leave_one_out=False))
            means = found[["threshold", "fnr", "volume_ratio"]].mean()
            rows.append({"size": size, **means})
    return rows


def size_table(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return the digital results: one row per number of patients, columns per training."""
    rows = []
    for size, of_size in sizes.groupby("size"):
        row: dict[str, object] = {"patients": size}
        for training, name in TRAINING_NAMES.items():
            part = of_size[of_size["training"] == training]
            if part.empty:
                continue
            row[f"{name}: share missed"] = f"{part['fnr'].mean():.3f}"
            ratios = part["volume_ratio"].quantile([0.5, 0.1, 0.9])
            row[f"{name}: marked / true"] = with_interval(*ratios, ".2f")
        rows.append(row)
    return pd.DataFrame(rows)


def time_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return one row per training, calibration method and time."""
    return pd.DataFrame(
        {
            "training": TRAINING_NAMES[row.training],
            "threshold set": WAYS[row.calibrated],
            "used": "digitally" if np.isnan(row.time_s) else f"chip, {time_label(row.time_s)}",
            "share missed": with_interval(row.fnr, row.fnr_low, row.fnr_high),
            "marked / true": f"{row.volume_ratio:.2f}",
            "kept": row.kept,
        }
        for row in summary.sort_values(
            ["training", "calibrated", "time_s"],
            key=lambda values: (
                values.map(list(WAYS).index) if values.name == "calibrated" else values
            ),
            na_position="first",
        ).itertuples()
    )


def _patients(cases: tuple[Case, ...]) -> list[str]:
    return list(dict.fromkeys(case.patient_id for case in cases))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calibration", type=int, default=60, help="patients that set thresholds")
    parser.add_argument("--test", type=int, default=60, help="patients that they are tested on")
    parser.add_argument("--chips", type=int, default=5)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--trainings", nargs="*", default=list(TRAINING_NAMES))
    parser.add_argument("--draws", type=int, default=30, help="of calibration patients, a size")
    parser.add_argument("--document", type=Path, help="file to write the tables into")
    parser.add_argument("--out", type=Path, default=Path("runs/conformal"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
