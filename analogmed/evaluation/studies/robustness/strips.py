"""Strips of example cases: a part of a signal, and the predictions for its images over time.

A strip is a part of a signal of which the images of a case are windows, such as an ECG with its
beats. The chips of the sweep are programmed again for these images, with read noise of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analogmed.data.case import Sample, Strip, Task
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.examples import choose_cases
from analogmed.evaluation.passes import Pass, chip_passes, predict_case
from analogmed.evaluation.settings import Experiment, SweepConfig
from analogmed.execution.run_folder import WrittenFiles
from analogmed.execution.threads import one_thread
from analogmed.foundation.time_constants import DAY_S, MONTH_S, T0_S
from analogmed.tables.robustness import STRIP_IMAGES, STRIP_SIGNALS
from analogmed.training import Checkpoint

MOST_IMAGES = 12
"""Largest number of images of a strip."""
MOST_CHIPS = 10
"""Largest number of chips of each network."""
MOST_TIMES = 8
"""Largest number of times; longer sweeps are shown at t0, after a day and after a month."""
PREFERRED = ("II", "MLII")
"""Channels that show a heartbeat best; the first one is stored without them."""
_MARGIN_S = 0.5
"""Length of the signal before the first image, and after the last one."""


@dataclass(frozen=True)
class _Part:
    """Part of a case: its images, and what is shown of them.

    Attributes:
        place: place of the case in the order of its scores.
        sample: its images.
        shown: which of the references of these images are shown.
        seconds: places of the shown references in seconds from the start, shape (shown,).
        signal: signal of the part, shape (channels, samples).
        rate: samples per second.
    """

    place: str
    sample: Sample
    shown: slice
    seconds: np.ndarray
    signal: np.ndarray
    rate: float


def write_strips(
    experiment: Experiment,
    task: Task,
    checkpoints: Sequence[Checkpoint],
    table: pd.DataFrame,
    folder: Path,
) -> None:
    """Run the chips of each network on strips of a few cases, and write two tables of them.

    Without a value of the primary metric on a chip, no case can be chosen, and nothing is written.

    Args:
        experiment: settings of the sweep.
        task: data of the sweep, with strips.
        checkpoints: networks of the sweep.
        table: results of the sweep, from which the cases are chosen.
        folder: run folder.
    """
    of_metric = table[(table["metric"] == task.primary_metric) & table["time_s"].notna()]
    if of_metric["value"].isna().all():
        return
    by_id = {case.case_id: case for case in task.test}
    chosen = choose_cases(table, experiment.examples, task.primary_metric)
    parts = [_part(place, task.read(by_id[case]), task) for place, case in chosen.items()]
    chips = sorted(set(table["chip"].dropna().astype(int)))[:MOST_CHIPS]
    rows: list[dict[str, Any]] = []
    with one_thread():
        for checkpoint in checkpoints:
            rows += _predictions(checkpoint, experiment, task, parts, chips)
    WrittenFiles(folder).record(STRIP_SIGNALS.file, STRIP_IMAGES.file)
    STRIP_SIGNALS.write(STRIP_SIGNALS.frame([r for p in parts for r in _signals(p, task)]), folder)
    STRIP_IMAGES.write(STRIP_IMAGES.frame(rows), folder)


def choose_images(labels: np.ndarray, most: int = MOST_IMAGES) -> slice:
    """Return the first consecutive images with the most classes, and then the rarest of them.

    Args:
        labels: reference of each image, shape (images, labels).
        most: largest number of images.
    """
    _, kinds, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    kinds = kinds.reshape(-1)
    rarity = 1 / counts[kinds]
    starts = range(max(1, len(kinds) - most + 1))
    worth = [
        (len(np.unique(kinds[start : start + most])), rarity[start : start + most].sum())
        for start in starts
    ]
    start = max(starts, key=lambda start: (*worth[start], -start))
    return slice(start, start + most)


def _part(place: str, sample: Sample, task: Task) -> _Part:
    assert task.strip is not None
    strip: Strip = task.strip(sample.case)
    chosen = choose_images(task.kind.references(sample.label))
    margin = round(_MARGIN_S * strip.rate)
    places = strip.places[chosen]
    first = max(0, int(places[0]) - margin)
    image_of = task.kind.images_of(sample.label)
    images = slice(int(image_of[chosen][0]), int(image_of[chosen][-1]) + 1)
    before = chosen.start - int(np.searchsorted(image_of, images.start))
    return _Part(
        place,
        replace(sample, image=sample.image[images], label=sample.label[images]),
        slice(before, before + len(places)),
        (places - first) / strip.rate,
        strip.signal[:, first : int(places[-1]) + margin + 1],
        strip.rate,
    )


def _signals(part: _Part, task: Task) -> Iterator[dict[str, Any]]:
    """Yield the rows of one channel of a part."""
    case = part.sample.case
    channel = next((name for name in PREFERRED if name in task.channels), task.channels[0])
    for number, value in enumerate(part.signal[task.channels.index(channel)]):
        yield {
            "task": task.name,
            "case": case.case_id,
            "patient": case.patient_id,
            "channel": channel,
            "second": round(number / part.rate, 4),
            "value": round(float(value), 3),
        }


def _predictions(
    checkpoint: Checkpoint,
    experiment: Experiment,
    task: Task,
    parts: Sequence[_Part],
    chips: Sequence[int],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one network, run digitally and on its chips."""
    digital = Pass.digital(checkpoint.network.to(experiment.device))
    on_chip = chip_passes(
        make_analog(checkpoint, experiment, task),
        _shown(experiment.sweep),
        model=checkpoint.info.model,
        seed=experiment.seed,
        chips=chips,
    )
    found: dict[tuple[str, float | None], list[np.ndarray]] = {}
    for one in chain([digital], on_chip):
        time_s = None if one is digital else one.time_s
        for part in parts:
            label = part.sample.label
            logits = predict_case(one, part.sample, task, experiment)
            scored = task.kind.scored_logits(logits, label).double()
            prob = task.kind.positions(scored).cpu().numpy()
            of_classes = [
                task.kind.of_class(prob, task.kind.references(label), index)[0][part.shown]
                for index in range(len(task.classes))
            ]
            found.setdefault((part.place, time_s), []).append(np.stack(of_classes, axis=1))
    for part in parts:
        for time_s in dict.fromkeys(time_s for _, time_s in found):
            chips_of = np.stack(found[part.place, time_s])  # (chips, images, classes)
            yield from _rows(checkpoint, experiment, task, part, time_s, chips_of)


def _rows(
    checkpoint: Checkpoint,
    experiment: Experiment,
    task: Task,
    part: _Part,
    time_s: float | None,
    probabilities: np.ndarray,
) -> Iterator[dict[str, Any]]:
    case = part.sample.case
    references = task.kind.references(part.sample.label)[part.shown]
    holds = task.kind.holds(references, len(task.classes))  # (shown, classes)
    run: Mapping[str, Any] = {
        "task": task.name,
        "model": checkpoint.info.model,
        "training": checkpoint.info.training,
        "hardware": "digital" if time_s is None else experiment.hardware.preset,
        "case": case.case_id,
        "patient": case.patient_id,
        "place": part.place,
        "time_s": time_s,
        "n_chips": 0 if time_s is None else len(probabilities),
    }
    for image, second in enumerate(part.seconds):
        named = [name for name, is_so in zip(task.classes, holds[image], strict=True) if is_so]
        for index, name in enumerate(task.classes):
            values = probabilities[:, image, index]
            yield {
                **run,
                "second": round(float(second), 4),
                "reference": "+".join(named) or "none",
                "class": name,
                "probability": round(float(values.mean()), 4),
                "least": round(float(values.min()), 4),
                "largest": round(float(values.max()), 4),
            }


def _shown(sweep: SweepConfig) -> SweepConfig:
    """Return one read at each time, or at few times of a long sweep."""
    times_s = sweep.times_s
    if len(times_s) > MOST_TIMES:
        chosen = tuple(time_s for time_s in times_s if time_s in (T0_S, DAY_S, MONTH_S))
        times_s = chosen or times_s[-1:]
    return replace(sweep, times_s=times_s, reads=1)
