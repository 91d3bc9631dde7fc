"""Robustness of a network on chips, from the network and a loader alone: no file, no settings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.metrics.metric import IterationMetric
from torch import Tensor, nn
from torch.nn.functional import one_hot
from tqdm.auto import tqdm

from analogmed.analog.ideal_tiles import ideal_tiles
from analogmed.evaluation.passes import Pass, chip_passes
from analogmed.evaluation.settings import SweepConfig
from analogmed.evaluation.summaries.runs import network_runs
from analogmed.evaluation.summaries.summary import over_time
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import to_seconds
from analogmed.metrics.case import case_metrics
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import is_metric, label_of
from analogmed.metrics.registry import metric as registered
from analogmed.network.batches import images_of, labels_of
from analogmed.network.inference import to_classes
from analogmed.network.probe import NetworkProbe
from analogmed.network.walk import evaluating
from analogmed.report.figures.over_time import metric_over_time
from analogmed.report.figures.style import time_label
from analogmed.tables.results import to_table

Network = Callable[[Tensor], Tensor]
Score = Callable[..., Any]
"""Function of a prediction and a reference, both of one image, that returns a number."""
Inferer = Callable[[Tensor, Network], Tensor]
"""Function of images and a network that returns logits, as MONAI's ``SlidingWindowInferer``."""

_TASK, _TRAINING = "test images", "this network"
_LOWER_IS_BETTER = ("distance", "loss", "error")
"""Parts of names of functions whose lower values are better."""


@dataclass(frozen=True)
class RobustnessResult:
    """Scores of a network run digitally and on chips over time.

    Attributes:
        values: one row per run, chip, time, image and class: the columns of ``results.csv``.
        metric: name of the metric.
        lower_is_better: whether lower values are better; a drop is by how much the chip is worse.
        level: confidence level of the intervals.
    """

    values: pd.DataFrame
    metric: str
    lower_is_better: bool = False
    level: float = 0.95

    @property
    def curves(self) -> pd.DataFrame:
        """Score over time with intervals over patients and chips, as in ``curves.csv``."""
        return over_time(
            self.values, self.metric, lower_is_better=self.lower_is_better, level=self.level
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per time: score and drop against the digital run, each with its interval."""
        curves = self.curves
        on_chip = curves["hardware"] != "digital"
        times = ["digital", *map(time_label, curves.loc[on_chip, "time_s"])]
        names = {"estimate": self.metric, "low": "low", "high": "high"}
        names |= {f"drift_drop{end}": f"drop{end}" for end in ("", "_low", "_high")}
        rows = pd.concat([curves[~on_chip], curves[on_chip]])[list(names)].rename(columns=names)
        return rows.set_axis(pd.Index(times, name="time"))

    @property
    def notes(self) -> list[str]:
        """Limitations of the result: images without a value, too few chips or patients."""
        images = self.values["case"].nunique()
        counted = {case for run in network_runs(self.values, self.metric) for case in run.cases}
        notes = []
        if left_out := images - len(counted):
            notes.append(
                f"{left_out} of {images} images are in no mean: their reference has no structure, "
                "or the metric is undefined in some run; see .values"
            )
        if min(self.values["patient"].nunique(), self.values["chip"].nunique()) < 2:
            notes.append("no intervals: they need at least two chips and two patients")
        return notes

    def plot(self, path: Path | str) -> Path:
        """Draw the score over time with its digital baseline into a PNG or SVG file."""
        return metric_over_time(self.curves, path)

    def __str__(self) -> str:
        patients = self.values["patient"].nunique()
        chips = self.values["chip"].nunique()
        label = label_of(self.metric) if is_metric(self.metric) else self.metric
        direction = ", lower is better" if self.lower_is_better else ""
        head = f"{label}{direction}: {patients} patients, {chips} chips, {self.level:.0%} intervals"
        drop = "drop: by how much the chip is worse than the digital run, paired over images"
        return "\n".join([head, self.table.to_string(float_format="%.3f"), drop, *self.notes])

    def _repr_html_(self) -> str:
        return str(self.table.to_html(float_format="{:.3f}".format))


def robustness(
    analog: nn.Module,
    loader: Iterable[Any],
    *,
    metric: str | Score = "dice",
    lower_is_better: bool | None = None,
    times: Sequence[str | float] | str | float = ("t0", "1 day", "30 days"),
    chips: int = 5,
    patients: Sequence[object] | None = None,
    inferer: Inferer | None = None,
    keys: tuple[str, str] = ("image", "label"),
    seed: int = 0,
) -> RobustnessResult:
    """Evaluate a calibrated analog network digitally and on chips over time.

    The batches of the loader are read once and kept in memory. All runs see the same images, so
    that the drop is paired over images.

    Args:
        analog: network from :func:`analogmed.convert` that returns logits, calibrated or with
            learned input ranges.
        loader: batches of images (B, C, *spatial) with labels: tuples, or mappings as of MONAI's
            dictionary transforms. Labels are class indices, (B, *spatial) or (B, 1, *spatial), or
            one channel per logit, (B, K, *spatial).
        metric: name of a metric, for instance ``"dice"`` or ``"hd95"`` (in pixels); or a function
            of a prediction and a reference, each of one image, that returns a number. A metric of
            MONAI gets both with one channel per class. Any other function gets class indices,
            (1, *spatial). Images for which it is NaN or infinite in some run are in no mean.
        lower_is_better: whether lower values of a function are better; by default, of those with
            distance, loss or error in their names.
        times: times since programming: numbers in s, or texts such as ``"1 day"``.
        chips: number of chips; at least two for an interval.
        patients: patient of each image, in the order of the loader, which must not shuffle; by
            default, each image is a patient of its own. Images of one patient are not independent:
            without this, their intervals are too narrow.
        inferer: function of images and network that returns logits, for images that are larger than
            the network's window, such as MONAI's ``SlidingWindowInferer``.
        keys: keys of images and labels where a batch is a mapping.
        seed: seed of chips and noise; the same seed gives the same result.

    Returns:
        The result; ``result.table`` has one row per time.

    Raises:
        ConfigError: the network was never calibrated, the loader is empty or has another form, or
            an argument is out of range.
        CoverageError: the network has no analog layer.
    """
    listed = [times] if isinstance(times, str | int | float) else times
    sweep = SweepConfig(chips=chips, times_s=tuple(map(to_seconds, listed)))
    score, name = _named(metric)
    if lower_is_better is None:
        named_so = any(part in name.lower() for part in _LOWER_IS_BETTER)
        lower_is_better = named_so or is_lower_better(name)
    batches = _read(loader, keys, next(analog.parameters()).device)
    of_image = _checked_patients(patients, sum(len(images) for images, _ in batches))
    model = type(analog).__name__
    address = {"task": _TASK, "model": model, "training": _TRAINING}
    digital = Pass(float("nan"), 0, 0, analog)
    passes = chip_passes(analog, sweep, model=model, seed=seed, chips=range(chips))
    rows: list[dict[str, object]] = []
    total = 1 + chips * len(sweep.times_s)
    with tqdm(total=total, desc="chips over time", unit="run", disable=None) as progress:
        with ideal_tiles(analog), evaluating(analog):
            if inferer is None:
                _probe(analog, batches[0][0][:2])
            rows += _rows(digital, batches, score, inferer, of_image)
        rows = [address | {"hardware": "digital", "chip": pd.NA} | row for row in rows]
        progress.update()
        for each in passes:
            place = address | {"hardware": "chip", "chip": each.chip}
            place |= {"time_s": each.time_s, "read": each.read}
            rows += [place | row for row in _rows(each, batches, score, inferer, of_image)]
            progress.update()
    table = to_table([{"metric": name} | row for row in rows])
    return RobustnessResult(table, name, lower_is_better)


def _probe(analog: nn.Module, images: Tensor) -> None:
    """Raise an error for a network that returns something else than logits."""
    with torch.no_grad():
        output = analog(images.clone())
    if isinstance(output, Tensor) and output.ndim > 1:
        window = tuple(images.shape[2:])
        NetworkProbe("network", images.shape[1], output.shape[1], window).check(analog, images)


Values = Iterator[tuple[str, float, str, str]]
"""Class, value, unit and note of each class of one image."""


def _named(metric: str | Score) -> tuple[Callable[[Tensor, Tensor], Values], str]:
    """Return the function that scores logits against labels, and the name of the metric."""
    if isinstance(metric, str):
        registered(metric)  # raises an error for an unknown name
        return lambda logits, labels: _registered(metric, logits, labels), metric
    if not callable(metric):
        raise ConfigError(
            "metric: expected the name of a metric, or a function of prediction and reference, got "
            f"{type(metric).__name__}"
        )
    name = getattr(metric, "__name__", type(metric).__name__)
    return lambda logits, labels: _called(metric, name, logits, labels), name


def _rows(
    each: Pass,
    batches: Sequence[tuple[Tensor, Tensor]],
    score: Callable[[Tensor, Tensor], Values],
    inferer: Inferer | None,
    patients: Sequence[str],
) -> Iterator[dict[str, object]]:
    each.start("loader")
    number = 0
    for images, labels in batches:
        with torch.no_grad():
            logits = inferer(images, each.network) if inferer else each.network(images.clone())
        _check_logits(logits, labels)
        for one, reference in zip(logits.split(1), labels.split(1), strict=True):
            for of_class, value, unit, note in score(one, reference):
                yield {
                    "case": f"{number:06d}",
                    "patient": patients[number],
                    "class": of_class,
                    "value": value,
                    "unit": unit,
                    "note": note,
                }
            number += 1


def _registered(metric: str, logits: Tensor, labels: Tensor) -> Values:
    indices = _indices(labels, logits.shape[1])
    classes = max(1, logits.shape[1] - 1)
    for row in case_metrics(
        to_classes(logits).cpu(),
        indices.cpu().numpy(),
        n_classes=classes,
        spacing=(1.0,) * (logits.ndim - 2),
        tolerance=1.0,
        unit="px",
        metrics=(metric,),
    ):
        yield f"class {row.class_index}", row.value, row.unit, row.note


def _called(metric: Score, name: str, logits: Tensor, labels: Tensor) -> Values:
    prediction, reference = to_classes(logits).long(), _indices(labels, logits.shape[1]).long()
    if isinstance(metric, IterationMetric):
        prediction, reference = (_channels(m, logits.shape[1]) for m in (prediction, reference))
    value = metric(prediction, reference)
    if isinstance(value, tuple):
        value = value[0]  # some functions also return the number of valid values
    if callable(reset := getattr(metric, "reset", None)):
        reset()  # the state that a metric accumulates over calls
    try:
        numbers = np.asarray(torch.as_tensor(value).detach().cpu(), dtype=np.float64).ravel()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"metric '{name}': expected a number or a tensor of numbers, got {type(value).__name__}"
        ) from error
    is_defined = numbers.size > 0 and bool(np.isfinite(numbers).all())
    yield "all", float(numbers.mean()) if is_defined else float("nan"), "1", ""


def _channels(indices: Tensor, n_logits: int) -> Tensor:
    """Return masks (1, K, *spatial) of class indices (1, *spatial); one logit is one class."""
    if n_logits == 1:
        return indices[:, None]
    return one_hot(indices, n_logits).movedim(-1, 1)


def _indices(labels: Tensor, n_logits: int) -> Tensor:
    """Return class indices (1, *spatial) of labels in any of the accepted forms."""
    if labels.shape[1] > 1:
        return labels.argmax(1)
    values = labels.unique().tolist()
    if n_logits == 1:
        if len(values) > 2 or (len(values) == 2 and values[0] != 0):
            raise ConfigError(
                f"loader: the labels of one structure have the values {_few(values)}; expected 0 "
                "and one other value"
            )
        return (labels[:, 0] > 0).to(torch.uint8)
    if any(value not in range(n_logits) for value in values):
        raise ConfigError(
            f"loader: labels have the values {_few(values)}; expected class indices from 0 to "
            f"{n_logits - 1}, one for each of the {n_logits} logits"
        )
    return labels[:, 0].long()


def _few(values: list[float]) -> str:
    shown = [f"{value:g}" for value in values[:5]]
    return ", ".join([*shown, "..."] if len(values) > 5 else shown)


def _read(
    loader: Iterable[Any], keys: tuple[str, str], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    batches = []
    for batch in loader:
        images, labels = images_of(batch, key=keys[0]), labels_of(batch, key=keys[1])
        if not images.is_floating_point():
            raise ConfigError(
                f"loader: expected images of floating-point numbers, got {images.dtype}; normalise "
                "them as in training"
            )
        if labels.ndim == images.ndim - 1:
            labels = labels[:, None]
        batches.append((images.to(device, torch.float32), labels.to(device)))
    if not batches:
        raise ConfigError("loader: it yielded no batch; expected images with labels")
    return batches


def _check_logits(logits: Any, labels: Tensor) -> None:
    if not isinstance(logits, Tensor):
        raise ConfigError(
            f"network: expected one tensor of logits, got {type(logits).__name__}; wrap the "
            "network in a module that returns its logits"
        )
    expected = (len(labels), *labels.shape[2:])
    if (len(logits), *logits.shape[2:]) != expected or labels.shape[1] not in (1, logits.shape[1]):
        raise ConfigError(
            f"loader: labels of shape {tuple(labels.shape)} do not fit logits of shape "
            f"{tuple(logits.shape)}; expected class indices (B, 1, *spatial), or one channel per "
            "logit"
        )


def _checked_patients(patients: Sequence[object] | None, images: int) -> list[str]:
    if patients is None:
        return [f"{number:06d}" for number in range(images)]
    if len(patients) != images:
        raise ConfigError(
            f"patients: expected one for each of the {images} images of the loader, got "
            f"{len(patients)}"
        )
    return list(map(str, patients))
