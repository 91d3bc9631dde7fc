"""Training on a small balanced subset of the images, against training on all of them.

    python experiments/training_subset.py --task mitbih --root data/mitdb --model s4d_ncp \\
        --options "{size: small}" --share 0.01 -- --epochs 4 --batch_size 128

Both networks see the same number of training images, up to whole batches: those of the subset in
more repetitions. Each is trained digitally, and from there digitally and hardware-aware, and is
evaluated on the same chips. Settings after -- are those of all trainings. Finished steps are not
repeated. Writes subset.md and subset.csv into the folder of --out.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _programs import (
    case_values,
    evaluate_networks,
    in_parallel,
    markdown,
    train_pair,
    with_interval,
    write_table,
)

from analogmed.evaluation.statistics import difference, two_way_bootstrap
from analogmed.foundation.time_constants import DAY_S, T0_S
from analogmed.metrics.properties import bounds_of, difference_bounds
from analogmed.metrics.registry import label_of
from analogmed.report.names import TRAINING_NAMES

TIMES_S = (T0_S, DAY_S)


def main() -> None:
    """Train and evaluate, then print and write the table."""
    arguments = _arguments()
    repeats = round(1 / arguments.share) if arguments.share > 0 else 0
    if repeats < 2 or abs(repeats * arguments.share - 1) > 1e-9:
        raise SystemExit(
            f"--share: expected 1 divided by a whole number, such as 0.01, got {arguments.share:g}"
        )
    shares = {"all": 1.0, "subset": arguments.share}

    def run(name: str) -> pd.DataFrame:
        return run_one(shares[name], arguments.out / name, arguments)

    whole, subset = in_parallel(run, shares, arguments.workers)
    table = compared(whole, subset, arguments.share)
    text = markdown(table)
    write_table(arguments.out, "subset", table, text)
    print(f"{text}\ntables: {arguments.out}/")


def run_one(share: float, out: Path, arguments: argparse.Namespace) -> pd.DataFrame:
    """Train both networks on a share of the images, and return their results."""
    data = [f"--task={arguments.task}"]
    if arguments.root is not None:
        data.append(f"--task.root={arguments.root}")
    model = [f"--model={arguments.model}", f"--model.options={arguments.options}"]
    images = [f"--loading.subset={share}", f"--loading.patches_per_image={round(1 / share)}"]
    _, *networks = train_pair([*data, *images, *arguments.settings], model, out)
    evaluate_networks(
        data, networks, out / "eval", chips=arguments.chips, times_s=[int(t) for t in TIMES_S]
    )
    return pd.read_parquet(out / "eval" / "results.parquet")


def compared(whole: pd.DataFrame, subset: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return a row per training and run: scores of both, and their paired difference.

    Args:
        whole: results of the networks that were trained on all images.
        subset: results of those that were trained on the subset, on the same patients and chips.
        share: share of the images in the subset.
    """
    metric = str(whole["metric"].iloc[0])
    rows = []
    for training, name in TRAINING_NAMES.items():
        first, second = (
            case_values(table[table["training"] == training], metric) for table in (whole, subset)
        )
        for time, run in {"digital": "digital", T0_S: "chip, t0", DAY_S: "chip, 1 day"}.items():
            values = [_values(found[time].reindex(first[time].index)) for found in (first, second)]
            patients = first[time].index.get_level_values("patient")
            scores = [
                two_way_bootstrap(each, patients=patients, bounds=bounds_of(metric))
                for each in values
            ]
            change = two_way_bootstrap(
                values[1],
                values[0],
                patients=patients,
                statistic=difference,
                bounds=difference_bounds(metric),
            )
            texts = [with_interval(each.estimate, each.low, each.high) for each in scores]
            rows.append(
                {
                    "trained": name,
                    "run": run,
                    f"{label_of(metric)}: all images": texts[0],
                    f"{label_of(metric)}: {share:.3g} of them": texts[1],
                    "difference": with_interval(change.estimate, change.low, change.high, "+.3f"),
                }
            )
    return pd.DataFrame(rows)


def _values(table: pd.DataFrame) -> np.ndarray:
    """Return values per case and chip; per case for a digital run, which has one column."""
    values = table.to_numpy(float)
    return values[:, 0] if values.shape[1] == 1 else values


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", required=True)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--options", default="{}", help="arguments of the network, in YAML")
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--chips", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/training_subset"))
    parser.add_argument("settings", nargs="*", help="settings of all trainings, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
