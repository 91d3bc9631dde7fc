"""Example cases: slices of image, reference and prediction over the age of a chip.

The folder ``examples`` in the run folder contains one ``.npz`` file per case, read without pickle:

- ``about``: JSON text; ``format``, ``task``, ``case``, ``patient``, ``place`` (worst, median, best
  or a rank), ``hardware``, ``classes``, ``pictures``, ``planes``, ``networks`` (pairs of model and
  training) and ``times_s``.
- ``image_PLANE``: uint8, shape (pictures, H, W), a picture for each of the first channels, or
  (1, H, W, 3) where the channels are colours.
- ``label_PLANE``: class indices, uint8, shape (H, W).
- ``spacing_PLANE``: size of a pixel along rows and columns.
- ``digital_PLANE``: class indices of each network run digitally, uint8, (networks, H, W).
- ``pred_PLANE``: class indices on chip 0, uint8, (networks, times, H, W).
- ``variance_PLANE``, where uncertainty was measured: float, (networks, times, H, W).
- ``dice_digital`` (networks,) and ``dice`` (networks, times): Dice of the whole case, class mean.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analogmed.data import Sample, Task
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.passes import Pass, chip_passes, predict_case
from analogmed.evaluation.planes import Plane, choose_planes
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.summaries.runs import present_structures
from analogmed.execution.run_folder import WrittenFiles
from analogmed.execution.threads import one_thread
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import write_atomically
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.case import mean_dice
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.network.inference import to_classes
from analogmed.report.examples import FORMAT, MOST_PICTURES, to_bytes
from analogmed.training import Checkpoint

FOLDER = "examples"
COLORS = ("red", "green", "blue")


def choose_cases(table: pd.DataFrame, n_cases: int, metric: str = "dice") -> dict[str, str]:
    """Choose cases from the worst to the best, evenly spaced in rank.

    Cases are ranked by their mean of a metric on chips over networks, chips, reads and classes, one
    day after programming or, if the sweep does not include this time, at its last time.

    Args:
        table: long results table.
        n_cases: number of cases; three are the worst, the median and the best.
        metric: name of the metric.

    Returns:
        Case by place; fewer if the table has fewer.

    Raises:
        DataError: no case has a value of the metric on a chip.
    """
    on_chip = present_structures(table[(table["metric"] == metric) & table["time_s"].notna()])
    on_chip = on_chip.dropna(subset="value")
    if on_chip.empty:
        raise DataError(
            f"no example can be chosen: the results table has no {label_of(metric)} on a chip"
        )
    times_s = on_chip["time_s"]
    at = on_chip[times_s == (DAY_S if (times_s == DAY_S).any() else times_s.max())]
    means = at.groupby("case")["value"].mean().reset_index()
    means = means.sort_values(["value", "case"], ascending=[not is_lower_better(metric), True])
    names = means["case"].tolist()
    last, n_cases = len(names) - 1, min(n_cases, len(names))
    ranks = [last / 2] if n_cases == 1 else np.linspace(0, last, n_cases)
    return {_place(int(rank), len(names)): names[int(rank)] for rank in ranks}


def write_examples(
    experiment: Experiment,
    task: Task,
    checkpoints: Sequence[Checkpoint],
    table: pd.DataFrame,
    folder: Path,
    *,
    n_cases: int = 3,
) -> list[Path]:
    """Rerun the first chip of each network on a few cases, and write slices of them.

    The chip has the same seed as in the sweep, which reproduces the predictions of the sweep.

    Args:
        experiment: settings of the sweep.
        task: data of the sweep.
        checkpoints: networks of the sweep.
        table: results of the sweep, from which the cases are chosen.
        folder: run folder.
        n_cases: number of cases; 0 writes none.

    Returns:
        The written files.
    """
    if n_cases < 1:
        return []
    by_id = {case.case_id: case for case in task.test}
    places = choose_cases(table, n_cases, task.primary_metric)
    samples = {place: task.read(by_id[case]) for place, case in places.items()}
    planes = {place: choose_planes(sample, task) for place, sample in samples.items()}
    kept: dict[str, list[dict[str, Any]]] = {place: [] for place in places}
    names = {place: f"{FOLDER}/{number}-{place}.npz" for number, place in enumerate(places)}
    WrittenFiles(folder).record(*names.values())
    with one_thread():
        for checkpoint in checkpoints:
            found = _run(checkpoint, experiment, task, samples, planes)
            for place, arrays in found.items():
                kept[place].append(arrays)
    return [
        write_example(
            folder / names[place],
            _about(experiment, task, checkpoints, samples[place], place, planes[place]),
            _pictures(samples[place], planes[place], task) | _stacked(kept[place]),
        )
        for place in places
    ]


def write_example(path: Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Write one case in the format of this module's docstring."""
    text = np.array(json.dumps(dict(about), sort_keys=True))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, about=text, **dict(arrays))

    return write_atomically(path, write)


def _place(rank: int, n_cases: int) -> str:
    named = {(n_cases - 1) // 2: "median", 0: "worst", n_cases - 1: "best"}
    return "only" if n_cases == 1 else named.get(rank, f"rank-{rank + 1}-of-{n_cases}")


def _about(
    experiment: Experiment,
    task: Task,
    checkpoints: Sequence[Checkpoint],
    sample: Sample,
    place: str,
    planes: Sequence[Plane],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "task": task.name,
        "case": sample.case.case_id,
        "patient": sample.case.patient_id,
        "place": place,
        "hardware": experiment.hardware.preset,
        "classes": list(task.classes),
        "pictures": ["colors"] if _is_colored(task) else list(task.channels[:MOST_PICTURES]),
        "planes": [plane.name for plane in planes],
        "networks": [[c.info.model, c.info.training] for c in checkpoints],
        "times_s": list(experiment.sweep.times_s),
    }


@torch.inference_mode()
def _run(
    checkpoint: Checkpoint,
    experiment: Experiment,
    task: Task,
    samples: Mapping[str, Sample],
    planes: Mapping[str, Sequence[Plane]],
) -> dict[str, dict[str, Any]]:
    """Return slices and Dice of one network, run digitally and on its first chip at each time."""
    digital = Pass.digital(checkpoint.network.to(experiment.device))
    on_chip = chip_passes(
        make_analog(checkpoint, experiment, task),
        replace(experiment.sweep, reads=1),
        model=checkpoint.info.model,
        seed=experiment.seed,
        chips=[0],
    )
    runs = [_cut_all(one, samples, planes, experiment, task) for one in chain([digital], on_chip)]
    return {place: _of_times([run[place] for run in runs]) for place in samples}


def _cut_all(
    one: Pass,
    samples: Mapping[str, Sample],
    planes: Mapping[str, Sequence[Plane]],
    experiment: Experiment,
    task: Task,
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for place, sample in samples.items():
        pred = to_classes(predict_case(one, sample, task, experiment)).cpu().numpy()
        cuts: dict[str, Any] = {plane.name: plane.cut(pred) for plane in planes[place]}
        found[place] = cuts | {"dice": mean_dice(pred, sample.label, len(task.classes))}
    return found


def _of_times(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    digital, *on_chip = runs
    arrays: dict[str, Any] = {}
    for name in digital:
        if name == "dice":
            arrays["dice_digital"] = np.float64(digital[name])
            arrays["dice"] = np.array([run[name] for run in on_chip])
        else:
            arrays[f"digital_{name}"] = digital[name]
            arrays[f"pred_{name}"] = np.stack([run[name] for run in on_chip])
    return arrays


def _stacked(networks: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.stack([arrays[name] for arrays in networks]) for name in networks[0]}


def _pictures(sample: Sample, planes: Sequence[Plane], task: Task) -> dict[str, np.ndarray]:
    arrays = {}
    n_pictures = min(len(task.channels), MOST_PICTURES)
    for plane in planes:
        channels = [plane.cut(sample.image[:, channel]) for channel in range(n_pictures)]
        if _is_colored(task):
            arrays[f"image_{plane.name}"] = to_bytes(np.stack(channels, axis=-1))[None]
        else:
            arrays[f"image_{plane.name}"] = np.stack(list(map(to_bytes, channels)))
        arrays[f"label_{plane.name}"] = plane.cut(sample.label)
        arrays[f"spacing_{plane.name}"] = np.array(plane.spacing(sample.spacing))
    return arrays


def _is_colored(task: Task) -> bool:
    return task.channels == COLORS
