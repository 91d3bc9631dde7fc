"""Loss of Dice of three networks on three tasks: Figure 1 b to d of Hamzaoui et al.

    python experiments/figure1.py                                # brain, spleen and nuclei phantoms
    python experiments/figure1.py --real lgg=data/lgg dsb2018=data/dsb2018 \\
        hippocampus=data/Task04_Hippocampus                      # real data sets
    python experiments/figure1.py --models unet --tasks phantom_spleen --length 3
    python experiments/figure1.py --real lgg=data/lgg --folds 5  # every patient is tested once
    python experiments/figure1.py --real lgg=data/lgg --folds 5 --size 64 64 --epochs 20
    python experiments/figure1.py --row_copies 8                 # on chips with copies of weights
    python experiments/figure1.py --distillation 1               # the start as teacher

Every network is first trained digitally. From this start, one digital and one hardware-aware
training follow with the same number of epochs, so that both networks see the same number of
patches. Both are evaluated on the same chips. All commands are printed and can be run by hand;
finished steps are not repeated. The phantoms take about an hour on two cores, and so do the subsets
of real data.

With --folds, the patients are divided into that number of groups. For each group, networks are
trained on the other groups, and the tables contain the patients of all groups. A chip number then
denotes one chip of each of these networks.
"""

import argparse
from collections.abc import Hashable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from _programs import (
    evaluate_networks,
    in_parallel,
    markdown,
    train_pair,
    with_interval,
    write_table,
)

from analogmed.data import load_task
from analogmed.evaluation import summarise
from analogmed.foundation.files import write_text_atomically
from analogmed.report import drop_per_model, to_markdown

MODELS = {
    "unet": "{features: 8}",
    "unetpp": "{features: [8, 8, 16, 32, 64, 8]}",
    "swin_unetr": "{feature_size: 12}",
}
PHANTOMS = {
    "phantom_brain": {"options": "{phantom_patients: 60}", "shares": "[0.25, 0.1, 0.65]"},
    "phantom_spleen": {
        "options": "{phantom_patients: 48}",
        "shares": "[0.3, 0.1, 0.6]",
        "size": "[64, 64]",
        "spatial_dims": "2",
    },
    "phantom_nuclei": {
        "options": "{phantom_patients: 80, window: [64, 64]}",
        "shares": "[0.4, 0.1, 0.5]",
    },
}
REAL = {
    "lgg": {"size": "[96, 96]", "shares": "[0.5, 0.1, 0.4]"},
    "dsb2018": {"options": "{window: [64, 64]}"},
    "hippocampus": {"options": "{window: [64, 64]}", "spatial_dims": "2"},
    "spleen": {"size": "[96, 96]", "spatial_dims": "2"},
}
EPOCHS = {
    "phantom_brain": 60,
    "phantom_spleen": 20,
    "phantom_nuclei": 60,
    "lgg": 70,
    "dsb2018": 60,
    "hippocampus": 6,
    "spleen": 20,
}
START, ON_CHIPS = "eval-start", "eval"
PATCHES_PER_IMAGE = {"phantom_nuclei": 4, "dsb2018": 2}


def main() -> None:
    arguments = _arguments()
    tasks = {name: PHANTOMS[name] for name in arguments.tasks}
    if arguments.real:
        roots = dict(pair.split("=", 1) for pair in arguments.real)
        tasks = {name: {**REAL[name], "root": root} for name, root in roots.items()}
    if arguments.size:
        tasks = {name: {**task, "size": str(arguments.size)} for name, task in tasks.items()}
    runs = [
        (name, split, model, out / model)
        for model, name in product(arguments.models, tasks)
        for split, out in splits(name, tasks[name], arguments.folds, arguments.out / name)
    ]

    def run(of: tuple[str, dict[str, str], str, Path]) -> Path:
        return run_one(*of, arguments)

    summary = summary_of(in_parallel(run, runs, arguments.workers))
    write_table(arguments.out, "summary", summary)
    write_text_atomically(arguments.out / "table.md", to_markdown(summary))
    tables = (dice_rows(summary), normalised_rows(summary), mean_rows(summary))
    overview = "\n".join(markdown(pd.DataFrame(rows)) for rows in tables)
    write_text_atomically(arguments.out / "overview.md", overview)
    drop_per_model(summary, arguments.out / "figure1.png")
    print(f"{overview}\ntables and figure: {arguments.out}/")


def splits(
    name: str, task: dict[str, str], folds: int, out: Path
) -> Iterator[tuple[dict[str, str], Path]]:
    """Yield the settings of a task for each split, and the folder of its runs.

    Without folds, there is one split, with the task's own shares. With folds, patients are assigned
    to the groups in turn, in the order of their names. Each group is the test split once, with
    patients of the next group for validation: a tenth of all, and at least one.
    """
    if folds == 1:
        yield task, out
        return
    settings: dict[str, Any] = {
        key: value if key == "root" else yaml.safe_load(value) for key, value in task.items()
    }
    loaded = load_task(name, **settings.pop("options", {}), **settings)
    cases = (*loaded.train, *loaded.validation, *loaded.test)
    patients = sorted({case.patient_id for case in cases})
    largest = -(-len(patients) // folds)
    if folds > len(patients) or len(patients) - largest < 2:
        raise SystemExit(f"{name} has {len(patients)} patients, not enough for --folds {folds}")
    for fold in range(folds):
        following = patients[(fold + 1) % folds :: folds][: max(1, len(patients) // 10)]
        held_out = {"validation": following, "test": patients[fold::folds]}
        train = sorted(set(patients).difference(*held_out.values()))
        split = {"train": train, **held_out}
        path = out / f"fold{fold + 1}of{folds}" / "split.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, yaml.safe_dump(split))
        own = {key: value for key, value in task.items() if key != "shares"}
        yield {**own, "split_file": str(path)}, path.parent


def run_one(
    name: str, task: dict[str, str], model: str, out: Path, arguments: argparse.Namespace
) -> Path:
    """Run three trainings, evaluate the last two on chips, and return their folder.

    The first training, from which both others start, is also evaluated, for its digital Dice.
    """
    data = [f"--task={name}", *(f"--task.{key}={value}" for key, value in task.items())]
    epochs = arguments.epochs or max(1, round(arguments.length * EPOCHS[name]))
    training = [
        *(*data, f"--epochs={epochs}"),
        f"--validate_every={epochs}",  # keeps the last state, since few patients select unreliably
        f"--loading.patches_per_image={PATCHES_PER_IMAGE.get(name, 1)}",
    ]
    network = [f"--model={model}", f"--model.options={MODELS[model]}"]
    hardware = [f"--hardware.row_copies={arguments.row_copies}"]
    hwa = [*hardware, f"--loss.distillation={arguments.distillation}"]
    start, *networks = train_pair(training, network, out, hwa=hwa)
    evaluate_networks(data, [start], out / START, chips=1, times_s=(0,))
    times_s = (0, 1, 86400, 2592000)
    chips = arguments.chips
    evaluate_networks(
        data, networks, out / ON_CHIPS, chips=chips, times_s=times_s, further=hardware
    )
    return out


def summary_of(folders: list[Path]) -> pd.DataFrame:
    """Return one row per task, model and training; folds of a task form one row.

    In addition to the columns of a summary, ``kept_of_start`` is the 1-day Dice of a hardware-aware
    network divided by the digital Dice of the network that it started from.
    """
    on_chips, start = (
        pd.concat([pd.read_parquet(folder / name / "results.parquet") for folder in folders])
        for name in (ON_CHIPS, START)
    )
    summary = summarise(on_chips)
    of_start = summarise(
        pd.concat([on_chips[on_chips["training"] == "hwa"], start[start["hardware"] == "digital"]])
    )
    names = {f"normalised_dice_1d{end}": f"kept_of_start{end}" for end in ("", "_low", "_high")}
    row = ["task", "model", "training"]
    summary = summary.merge(of_start[[*row, *names]].rename(columns=names), how="left", on=row)
    return summary.sort_values(row, kind="stable")


def dice_rows(summary: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Yield one row per task and model: Dice of both trainings on the chip after one day."""
    for names, digital, hwa in _pairs(summary):
        yield names | {
            "digital training: run digitally": f"{digital['dice_digital']:.3f}",
            "digital training: 1 day": _with_interval(digital, "dice_1d"),
            "hardware-aware: 1 day": _with_interval(hwa, "dice_1d"),
            "gain": _with_interval(hwa, "gain_1d", "+.3f"),
        }


def normalised_rows(summary: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Yield one row per task and model: Dice after one day divided by that of a digital run."""
    for names, digital, hwa in _pairs(summary):
        yield names | {
            "digital training: 1 day / digital": _with_interval(digital, "normalised_dice_1d"),
            "hardware-aware: 1 day / digital": _with_interval(hwa, "normalised_dice_1d"),
            "hardware-aware: 1 day / its start": _with_interval(hwa, "kept_of_start"),
        }


def mean_rows(summary: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Yield one row per task, model and training: mean Dice digitally and on chips over time."""
    for names, *trainings in _pairs(summary):
        for row in trainings:
            yield names | {
                "trained": "hardware-aware" if row["training"] == "hwa" else "digitally",
                "Dice digital": f"{row['dice_own_digital']:.3f}",
                "t0": f"{row['dice_t0']:.3f}",
                "1 day": f"{row['dice_1d']:.3f}",
                "\u00b1 between chips": f"{row['dice_1d_std']:.3f}",
                "1 month": f"{row['dice_1mo']:.3f}",
                "AVM": f"{row['avm']:+.3f}",
            }


def _pairs(
    summary: pd.DataFrame,
) -> Iterator[tuple[dict[str, str], dict[Hashable, Any], dict[Hashable, Any]]]:
    """Yield, for each task and model, its names and its digital and hardware-aware rows."""
    for (task, model), rows in summary.groupby(["task", "model"], sort=False):
        of = {row["training"]: row for row in rows.to_dict("records")}
        names = {"test data": f"{task}, {of['hwa']['n_patients']}", "network": str(model)}
        yield names, of["digital"], of["hwa"]


def _with_interval(row: dict[Hashable, Any], name: str, form: str = ".3f") -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], form)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--real", nargs="*", default=[], metavar="TASK=ROOT", help=f"of {', '.join(REAL)}"
    )
    parser.add_argument(
        "--tasks",
        nargs="*",
        choices=list(PHANTOMS),
        default=list(PHANTOMS),
        help="phantoms, where --real is not given",
    )
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--chips", type=int, default=10)
    parser.add_argument("--length", type=float, default=1.0, help="factor on the epochs")
    parser.add_argument("--epochs", type=int, help="epochs of each training, in place of its own")
    parser.add_argument("--size", type=int, nargs="+", help="size of the images, in pixels")
    parser.add_argument(
        "--folds", type=int, default=1, metavar="N", help="cross-validation: groups of patients"
    )
    parser.add_argument(
        "--row_copies", type=int, default=1, metavar="N", help="copies of weights on idle rows"
    )
    parser.add_argument(
        "--distillation",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of the start as the teacher of the hardware-aware training",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/figure1"))
    arguments = parser.parse_args()
    for name in ("folds", "epochs", "row_copies"):
        if (number := getattr(arguments, name)) is not None and number < 1:
            parser.error(f"--{name} must be at least 1, but is {number}")
    for pair in arguments.real:
        if pair.partition("=")[0] not in REAL or "=" not in pair:
            parser.error(f"--real is TASK=ROOT, with a task of {', '.join(REAL)}, but is {pair}")
    return arguments


if __name__ == "__main__":
    main()
