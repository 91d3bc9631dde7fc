"""Robustness of a network on chips, from the network and a loader alone: no file, no settings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from analogmed.analog.chip import check_programmable
from analogmed.analog.conversion import conversion_of, hardware_of
from analogmed.analog.ideal_tiles import ideal_tiles
from analogmed.evaluation.loader.batches import (
    LoadedBatch,
    check_logits,
    checked_patients,
    read_batches,
    references_of,
)
from analogmed.evaluation.loader.result import RobustnessResult
from analogmed.evaluation.loader.scoring import Masks, Score, Scored, Values, scorer
from analogmed.evaluation.loader.whole_images import WholeImages, classifies
from analogmed.evaluation.passes import Pass, chip_passes
from analogmed.evaluation.settings import SweepConfig
from analogmed.evaluation.summaries.runs import present_structures
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.foundation.progress import ProgressBar
from analogmed.foundation.settings.checks import require_at_least_one, require_whole
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.time_constants import names_of_times, to_seconds, warn_of_days
from analogmed.kinds.segmentation import SEGMENTATION
from analogmed.metrics.properties import is_lower_better
from analogmed.network.probe import NetworkProbe
from analogmed.network.walk import evaluating
from analogmed.tables.results import to_table

Network = Callable[[Tensor], Tensor]
Inferer = Callable[[Tensor, Network], Tensor]
"""Function of images and a network that returns logits, as MONAI's ``SlidingWindowInferer``."""

_TASK, _TRAINING = "test images", "this network"
_LOWER_IS_BETTER = ("distance", "loss", "error")
"""Parts of names of functions whose lower values are better."""


@checks_arguments
def robustness(
    analog: nn.Module,
    loader: Iterable[Any],
    *,
    metric: str | Score = "dice",
    lower_is_better: bool | None = None,
    times: Sequence[str | float] | str | float = ("t0", "1 day", "1 month"),
    chips: int = 5,
    patients: Iterable[object] | None = None,
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
            one channel per logit, (B, K, *spatial). Labels of classified images are class indices,
            (B,), or 0 or 1 for each logit, (B, K). Labels of marked samples of signals, such as
            heartbeats, are class indices, (B, samples), with 255 or -100 for samples without one.
        metric: name of a metric, for instance ``"dice"`` or ``"hd95"`` (in pixels); or a function
            of a prediction and a reference, each of one image, that returns a number. A metric of
            MONAI gets both with one channel per class. Any other function gets class indices,
            (1, *spatial). Images for which it is NaN or infinite in some run are in no mean. For
            classified images and marked samples, the name of one of their metrics, for instance
            ``"auroc"``; the value of an image is its contribution to the score.
        lower_is_better: whether lower values of a function are better; by default, of those with
            distance, loss or error in their names.
        times: times since programming: numbers in s, or texts such as ``"1 day"``, which the
            result shows as they are written.
            A month has 30 days.
        chips: number of chips; at least two for an interval.
        patients: patient of each image, in the order of the loader, which must not shuffle; by
            default, each image is a patient of its own. Images of one patient are not independent:
            without this, their intervals are too narrow.
        inferer: function of images and network that returns logits, for images that are larger than
            the network's window, such as MONAI's ``SlidingWindowInferer``.
        keys: keys of images and labels where a batch is a mapping.
        seed: seed of chips and noise; the same seed gives the same result.

    Returns:
        The result: print it, or see ``.table``, ``.plot()`` and ``.report()``.

    Raises:
        ConfigError: the network was never calibrated, the loader is empty or has another form, or
            an argument is out of range.
        CoverageError: the network has no analog layer.
    """
    require_at_least_one("chips", chips)
    require_whole("seed", seed)
    listed = _listed(times)
    sweep = SweepConfig(chips=chips, times_s=tuple(map(to_seconds, listed)))
    score, name = scorer(metric)
    metric = name if isinstance(metric, str) else metric
    if lower_is_better is None:
        named_so = any(part in name.lower() for part in _LOWER_IS_BETTER)
        lower_is_better = named_so or is_lower_better(name)
    if inferer is not None and (isinstance(inferer, type) or not callable(inferer)):
        raise ConfigError(
            f"inferer: expected a function of images and network, got {inferer!r}. Pass an "
            "instance, for instance SlidingWindowInferer((96, 96, 96))."
        )
    check_programmable(analog, sweep.times_s)
    batches = read_batches(analog, loader, keys)
    of_image = checked_patients(patients, loader, sum(len(batch.images) for batch in batches))
    images = _Images(batches, of_image, inferer, score, metric)
    table = _all_values(analog, images, sweep, name, seed)
    settings = {
        "hardware": _hardware(analog),
        "metric": name,
        "times_s": list(sweep.times_s),
        "chips": chips,
        "seed": seed,
        "inferer": None if inferer is None else type(inferer).__name__,
        "patients": "each image counts as a patient" if patients is None else None,
        "conversion": conversion_of(analog),
        "options": {
            "metric": _code(metric, name),
            **({} if isinstance(metric, str) else {"lower_is_better": repr(lower_is_better)}),
            **({} if tuple(keys) == ("image", "label") else {"keys": repr(tuple(keys))}),
        },
    }
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    return RobustnessResult(
        table,
        name,
        lower_is_better,
        settings=settings,
        time=moment,
        names=names_of_times(listed),
    )


class _Images:
    """Images of a loader with their references and patients, and how they are scored."""

    def __init__(
        self,
        batches: Sequence[LoadedBatch],
        patients: Sequence[str],
        inferer: Inferer | None,
        score: Callable[[Tensor, Tensor], Values],
        metric: str | Score,
    ) -> None:
        self._batches, self._patients = batches, patients
        self._inferer, self._score, self._metric = inferer, score, metric
        self._scored: Scored | None = None

    def check(self, network: nn.Module) -> None:
        """Raise an error if the network does not return logits that fit the labels."""
        first = self._batches[0]
        window = _window(first.images[:2], self._inferer)
        if window is not None:
            _probe(network, window)
        logits = self._logits(network, first.images[:1])
        self._batches = [batch.for_logits(logits) for batch in self._batches]
        check_logits(logits, self._batches[0].labels[:1])
        if classifies(logits, self._metric):
            self._scored = WholeImages(self._batches, logits, self._metric)
        else:
            if isinstance(self._metric, str):
                SEGMENTATION.check_metrics([self._metric], setting="metric")
            self._scored = Masks(references_of(self._batches, logits.shape[1]), self._score)

    def check_values(self, digital: pd.DataFrame, metric: str) -> None:
        """Raise an error if no image of the digital run has a value of the metric."""
        assert self._scored is not None
        if present_structures(digital)["value"].notna().any():
            return
        raise ConfigError(
            f"loader: {metric} is undefined for all {digital['case'].nunique()} images; expected "
            f"{self._scored.expected}"
        )

    @property
    def number(self) -> int:
        """Number of images."""
        return len(self._patients)

    def rows(self, each: Pass, progress: ProgressBar) -> Iterator[dict[str, object]]:
        """Yield the values of all images in one pass."""
        assert self._scored is not None
        each.start("loader")
        found = self._scored.values(self._outputs(each, progress))
        for number, of_class, value, unit, note in found:
            yield {
                "case": f"{number:06d}",
                "patient": self._patients[number],
                "class": of_class,
                "value": value,
                "unit": unit,
                "note": note,
            }

    def _outputs(self, each: Pass, progress: ProgressBar) -> Iterator[Tensor]:
        """Yield the logits of each image, shape (1, K, *spatial)."""
        for batch in self._batches:
            logits = self._logits(each.network, batch.images)
            check_logits(logits, batch.labels)
            yield from logits.split(1)
            progress.update(len(batch.images))

    @torch.no_grad()
    def _logits(self, network: Network, images: Tensor) -> Tensor:
        return self._inferer(images, network) if self._inferer else network(images.clone())


def _all_values(
    analog: nn.Module, images: _Images, sweep: SweepConfig, metric: str, seed: int
) -> pd.DataFrame:
    model = type(analog).__name__
    address = {"task": _TASK, "model": model, "training": _TRAINING, "metric": metric}
    known = hardware_of(analog)
    hardware = "chip" if known is None else known.preset
    total = images.number * (1 + sweep.chips * len(sweep.times_s))
    with ProgressBar(total, title="chips over time", unit="image") as progress:
        with ideal_tiles(analog), evaluating(analog):
            images.check(analog)
            run = Pass.digital(analog)
            place = address | {"hardware": "digital", "chip": pd.NA}
            rows = [place | row for row in images.rows(run, progress)]
        images.check_values(to_table(rows), metric)
        for each in chip_passes(analog, sweep, model=model, seed=seed, chips=range(sweep.chips)):
            place = address | {"hardware": hardware, "chip": each.chip}
            place |= {"time_s": each.time_s, "read": each.read}
            rows += [place | row for row in images.rows(each, progress)]
    return to_table(rows)


def _window(images: Tensor, inferer: Inferer | None) -> Tensor | None:
    """Return a part of images of the size that the network gets, or ``None`` if it is unknown."""
    if inferer is None:
        return images
    sizes = getattr(inferer, "roi_size", None)
    spatial = images.shape[2:]
    sizes = (sizes,) * len(spatial) if isinstance(sizes, int) else sizes
    if sizes is None or len(sizes) != len(spatial):
        return None
    if any(size > whole for size, whole in zip(sizes, spatial, strict=True)):
        return None  # the inferer pads the images
    return images[(..., *(slice(size if size > 0 else None) for size in sizes))]


def _probe(analog: nn.Module, images: Tensor) -> None:
    """Raise an error for a network that fails, or returns something else than logits."""
    window, logits_size = tuple(images.shape[2:]), None
    try:
        with torch.no_grad():
            output = analog(images.clone())
        outputs = output.shape[1] if isinstance(output, Tensor) and output.ndim > 1 else 1
        logits_size = () if isinstance(output, Tensor) and output.ndim == 2 else None
    except ShapeError as error:
        raise ConfigError(
            f"loader: the network does not take images of shape {tuple(images.shape)}: {error}"
        ) from error
    except RuntimeError:
        outputs = 1  # the probe describes the failure
    NetworkProbe("network", images.shape[1], outputs, window, logits_size).check(analog, images)


def _hardware(analog: nn.Module) -> dict[str, Any] | None:
    """Return preset and changed arguments of the hardware of a network, if they are known."""
    hardware = hardware_of(analog)
    if hardware is None:
        return None
    return {"preset": hardware.preset, **hardware.changes}


def _code(metric: str | Score, name: str) -> str:
    """Return the metric as code: a name in quotes, a function, or an instance of a class."""
    if isinstance(metric, str):
        return repr(metric)
    if hasattr(metric, "__name__"):
        return name if name.isidentifier() else "metric"
    return f"{name}(...)"


def _listed(times: Sequence[str | float] | str | float) -> list[str | float]:
    """Return times as a list; warn if plain numbers are so small that they may be days."""
    listed = list(times) if isinstance(times, Iterable) and not isinstance(times, str) else [times]
    warn_of_days(listed, "times", stacklevel=4)
    return listed
