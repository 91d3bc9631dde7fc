"""Dice of whole networks on chips: comparison of analogmed's engines with aihwkit's own layers.

    python experiments/backends_agree.py [--networks unet-hwa swin_unetr-hwa] [--out DIR]

All backends evaluate the same shipped networks on the test cases of the brain phantom, with the
same hardware and the same layers on tiles. aihwkit keeps transposed convolutions digital, so they
are digital in all backends. Each engine samples its own noise. The last columns report the
difference of the mean Dice from aihwkit's, with its interval over patients and chips. If two
engines compute the same, 95 in 100 of these intervals include 0. The table is printed, and written
to DIR as backends_agree.md and backends_agree.json. Takes a few minutes on two cores.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from analogmed.analog import Hardware, coverage
from analogmed.config import Experiment, SweepConfig, TaskConfig
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.preparation import shipped_folder
from analogmed.evaluation.session import Cases
from analogmed.evaluation.statistics import difference, two_way_bootstrap
from analogmed.evaluation.studies.robustness.sweep import chip_table
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.process import keep_freed_memory
from analogmed.metrics.properties import bounds_of, difference_bounds
from analogmed.report.text_table import pipe_table
from analogmed.training import Checkpoint, load_checkpoint

BACKENDS = ("aihwkit", "torch", "numba")
TIMES_S = (20.0, 86_400.0)  # t0 of the PCM model, and one day
SHIPPED = shipped_folder("phantom_brain")


def main(arguments: list[str] | None = None) -> None:
    """Compare the engines on each network, then print and write the table."""
    given = _arguments(arguments)
    keep_freed_memory()
    paths = given.checkpoints or [SHIPPED / f"{name}.safetensors" for name in given.networks]
    experiment = Experiment(
        task=TaskConfig(root=given.root, options=json.loads(given.task_options)),
        hardware=Hardware("pcm", tile_size=given.tile_size),
        sweep=SweepConfig(chips=given.chips, times_s=TIMES_S),
        seed=given.seed,
    )
    table = pd.concat([compare(load_checkpoint(path), experiment) for path in paths])
    text = to_text(table)
    print(text)
    if given.out:
        records = json.dumps(table.to_dict("records"), indent=2) + "\n"
        write_text_atomically(given.out / "backends_agree.md", text + "\n")
        write_text_atomically(given.out / "backends_agree.json", records)


def compare(checkpoint: Checkpoint, experiment: Experiment) -> pd.DataFrame:
    """Return one row per backend and time: mean Dice, and its difference from aihwkit's.

    Args:
        checkpoint: network to evaluate.
        experiment: data, hardware, chips and times; this function sets backend and digital layers.
    """
    transposed = tuple(
        name
        for name, layer in checkpoint.network.named_modules()
        if isinstance(layer, nn.modules.conv._ConvTransposeNd)
    )
    cases = Cases(experiment.task.load())
    found, seconds, layers = {}, {}, set()
    for backend in BACKENDS:
        settings = replace(experiment, backend=backend, digital_layers=transposed)
        start = time.perf_counter()
        found[backend], on_tiles = dice(checkpoint, settings, cases)
        seconds[backend] = time.perf_counter() - start
        layers.add(on_tiles)
    if len(layers) > 1:
        raise RuntimeError(f"the backends have other layers on tiles: {layers}")
    model = f"{checkpoint.info.model}, {checkpoint.info.training}"
    rows = []
    for time_s in experiment.sweep.times_s:
        for backend in BACKENDS:
            row = {"network": model, "time_s": time_s, "backend": backend}
            row |= _difference(found[backend][time_s], found["aihwkit"][time_s], experiment)
            rows.append(row | {"seconds": seconds[backend], "analog_layers": len(on_tiles)})
    return pd.DataFrame(rows)


def dice(
    checkpoint: Checkpoint, experiment: Experiment, cases: Cases
) -> tuple[dict[float, pd.DataFrame], tuple[str, ...]]:
    """Return the Dice (cases x chips) by time, and the names of the layers on tiles."""
    analog = make_analog(checkpoint, experiment, cases.task)
    table = chip_table(checkpoint, analog, cases, experiment, digital=False)
    by_time = {
        time_s: part.pivot_table("value", ["patient", "case", "class"], "chip", dropna=False)
        for time_s, part in table[table["metric"] == "dice"].groupby("time_s")
    }
    return by_time, coverage(analog).analog_layers


def _difference(
    found: pd.DataFrame, reference: pd.DataFrame, experiment: Experiment
) -> dict[str, object]:
    patients = found.index.get_level_values("patient")
    settings = {"patients": list(patients), "seed": experiment.seed}
    values, others = found.to_numpy(float), reference.reindex(found.index).to_numpy(float)
    mean = two_way_bootstrap(values, bounds=bounds_of("dice"), **settings)
    moved = two_way_bootstrap(
        values, others, statistic=difference, bounds=difference_bounds("dice"), **settings
    )
    return {
        **mean.cells("dice"),
        "chip_std": float(np.nanmean(values, axis=0).std(ddof=1)),
        **moved.cells("difference"),
        "patients": mean.n_patients,
        "chips": mean.n_chips,
    }


def to_text(table: pd.DataFrame) -> str:
    """Return the table in Markdown."""
    heads = (
        "network",
        "time",
        "backend",
        "Dice [95 %]",
        "SD of chips",
        "minus aihwkit's [95 %]",
        "s",
    )
    rows = []
    for row in table.to_dict("records"):
        names = (row["network"], f"{row['time_s']:g} s", row["backend"])
        mean = f"{row['dice']:.4f} [{row['dice_low']:.4f}, {row['dice_high']:.4f}]"
        moved = "-"
        if row["backend"] != "aihwkit":
            low, high = row["difference_low"], row["difference_high"]
            moved = f"{row['difference']:+.5f} [{low:+.5f}, {high:+.5f}]"
        rows.append((*names, mean, f"{row['chip_std']:.4f}", moved, f"{row['seconds']:.0f}"))
    first = table.iloc[0]
    counts = f"{first['patients']} patients, {first['chips']} chips."
    return f"{pipe_table(heads, rows, len(heads))}\n\n{counts}"


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=["unet-hwa", "swin_unetr-hwa"])
    parser.add_argument("--checkpoints", nargs="*", type=Path, help="files, in place of networks")
    parser.add_argument("--chips", type=int, default=20)
    parser.add_argument("--tile-size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="folder of the phantom; the cache by default")
    parser.add_argument(
        "--task-options", default="{}", help="JSON, for instance of a small phantom"
    )
    parser.add_argument("--out", type=Path, help="folder for the table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
