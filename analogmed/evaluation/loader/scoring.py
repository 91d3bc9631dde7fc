"""Scores of one image by a registered metric, a metric of MONAI, or any function."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.metrics.case import case_metrics
from analogmed.metrics.registry import metric as registered
from analogmed.network.inference import to_classes

Score = Callable[..., Any]
"""Function of a prediction and a reference, both of one image, that returns a number."""
Values = Iterator[tuple[str, float, str, str]]
"""Class, value, unit and note of each class of one image."""
_PER_CLASS = 2
"""Dimensions of the scores of images and classes, (B, K), that most metrics of MONAI return."""
ImageValue = tuple[int, str, float, str, str]
"""Number of an image; class, value, unit and note of one of its classes."""


class Scored(Protocol):
    """Scores of the images of a loader.

    Attributes:
        expected: labels of which at least some are needed for a score, for messages.
    """

    expected: str

    def values(self, logits: Iterable[Tensor]) -> Iterator[ImageValue]:
        """Yield the values of all images, whose logits are given image by image."""


class Masks:
    """Scores of masks, image by image.

    Args:
        references: class indices (B, *spatial) of all batches.
        score: function from logits and reference of one image to its values.
    """

    expected = "labels with a structure (values above 0) in at least one image"

    def __init__(
        self, references: Sequence[Tensor], score: Callable[[Tensor, Tensor], Values]
    ) -> None:
        self._references, self._score = references, score

    def values(self, logits: Iterable[Tensor]) -> Iterator[ImageValue]:
        """Yield the values of each image and class."""
        references = (one for batch in self._references for one in batch.split(1))
        for number, (one, reference) in enumerate(zip(logits, references, strict=True)):
            for of_class in self._score(one, reference):
                yield number, *of_class


def scorer(metric: str | Score) -> tuple[Callable[[Tensor, Tensor], Values], str]:
    """Return the function that scores logits (1, K, *spatial) against indices, and its name.

    Raises:
        ConfigError: the name is unknown, or the metric is neither a name nor a function.
    """
    if isinstance(metric, str):
        metric = registered(metric).name  # raises an error for an unknown name
        return lambda logits, indices: _registered(metric, logits, indices), metric
    if isinstance(metric, type):
        raise ConfigError(
            f"metric: expected an instance, got the class {metric.__name__}. Pass "
            f"{metric.__name__}()."
        )
    if not callable(metric):
        raise ConfigError(
            "metric: expected the name of a metric, or a function of prediction and reference, got "
            f"{type(metric).__name__}"
        )
    name = getattr(metric, "__name__", type(metric).__name__)
    return lambda logits, indices: _called(metric, name, logits, indices), name


def _registered(metric: str, logits: Tensor, indices: Tensor) -> Values:
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


def _called(metric: Score, name: str, logits: Tensor, indices: Tensor) -> Values:
    from monai.metrics.metric import IterationMetric

    prediction, reference = to_classes(logits).long(), indices
    if isinstance(metric, IterationMetric):
        prediction, reference = (_channels(m, logits.shape[1]) for m in (prediction, reference))
    value = _value(metric, name, prediction, reference)
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


def _value(metric: Score, name: str, prediction: Tensor, reference: Tensor) -> Any:
    from monai.metrics.metric import CumulativeIterationMetric

    try:
        value = metric(prediction, reference)
        is_final = not isinstance(metric, CumulativeIterationMetric) or value.ndim == _PER_CLASS
        return value if is_final else _aggregated(metric, name)
    except AnalogmedError:
        raise
    except Exception as error:
        raise ConfigError(
            f"metric '{name}': it fails on a prediction and a reference of shape "
            f"{tuple(prediction.shape)}, {prediction.dtype}: {type(error).__name__}: {error}. "
            "Expected a function of two tensors; wrap it in one that prepares them."
        ) from error


def _aggregated(metric: Any, name: str) -> Any:
    """Return the value of a metric of MONAI whose calls return counts, or nothing, to aggregate."""
    value = metric.aggregate()
    if not isinstance(value, list):
        return value
    if len(value) > 1:
        raise ConfigError(
            f"metric '{name}': it computes {len(value)} values; expected one. Give it one "
            "metric_name."
        )
    return value[0]


def _channels(indices: Tensor, n_logits: int) -> Tensor:
    """Return masks (1, K, *spatial) of class indices (1, *spatial); one logit is one class."""
    if n_logits == 1:
        return indices[:, None]
    return one_hot(indices, n_logits).movedim(-1, 1)
