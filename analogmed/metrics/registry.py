"""Metrics by name: the built-in ones, and those of installed packages."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.registry import Registry, call_plugin, described, load_plugin
from analogmed.metrics.metric import Metric

if TYPE_CHECKING:
    from analogmed.metrics.structure import Structure

PLUGIN_GROUP = "analogmed.metrics"
"""Group of entry points for metrics of packages: a name, and the :class:`Metric` of this name."""

_OF_MASKS = {
    "dice": "analogmed.metrics.overlap:DICE",
    "jaccard": "analogmed.metrics.overlap:JACCARD",
    "sensitivity": "analogmed.metrics.overlap:SENSITIVITY",
    "specificity": "analogmed.metrics.overlap:SPECIFICITY",
    "precision": "analogmed.metrics.overlap:PRECISION",
    "recall": "analogmed.metrics.overlap:RECALL",
    "f1": "analogmed.metrics.overlap:F1",
    "hd95": "analogmed.metrics.surface:HD95",
    "nsd": "analogmed.metrics.surface:NSD",
}
_ONLY_OF_IMAGES = {
    "auroc": "analogmed.metrics.ranking:AUROC",
    "average_precision": "analogmed.metrics.ranking:AVERAGE_PRECISION",
    "accuracy": "analogmed.metrics.agreement:ACCURACY",
    "kappa": "analogmed.metrics.agreement:KAPPA",
}
_BUILT_IN = _OF_MASKS | _ONLY_OF_IMAGES
PRIMARY = "dice"
"""Primary metric of segmentation tasks that name none."""
METRICS = tuple(_OF_MASKS)
"""Names of the built-in metrics of masks."""


def metric_names() -> tuple[str, ...]:
    """Return the names of all metrics, those of installed packages last."""
    return (*_BUILT_IN, *(name for name in _REGISTRY.names() if name not in _BUILT_IN))


@cache
def metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        ConfigError: the name is unknown, several packages define it, or its object is not a metric.
    """
    return _REGISTRY.get(name)


def spelled_metric(name: str) -> str:
    """Return the name of a metric that a text spells in any case, or the text if it is none."""
    return _REGISTRY.spelled(name)


def check_metric_name(name: str) -> None:
    """Raise ConfigError if a name is unknown, without importing the metric."""
    _REGISTRY.check(name)


def _load(point: EntryPoint) -> Metric:
    expected = f"analogmed.metrics.metric.Metric with the name '{point.name}'"
    loaded = load_plugin(point, kind="metric", expected=expected)
    if not isinstance(loaded, Metric) or loaded.name != point.name:
        raise ConfigError(f"{described('metric', point)} is {loaded!r}; expected {expected}")
    if loaded.score is None:
        return loaded
    return replace(loaded, score=partial(_score, loaded.score, described("metric", point)))


def _score(score: Callable[["Structure"], float], what: str, structure: "Structure") -> float:
    """Return the score of a plugin's metric; errors name its package."""
    return call_plugin(
        lambda: float(score(structure)),
        what=what,
        expected="a score (structure) that returns a number",
        returns=float,
    )


_REGISTRY: Registry[Metric] = Registry(
    "metric",
    _BUILT_IN,
    group=PLUGIN_GROUP,
    expected="an analogmed.metrics.metric.Metric of the same name",
    load=_load,
)


def is_metric(name: str) -> bool:
    """Return whether a metric has this name."""
    return name in _BUILT_IN or name in metric_names()


def metric_unit(name: str) -> str:
    """Return the unit of a metric: ``"1"``, or ``SPACING``; ``"1"`` for an unknown name."""
    return metric(name).unit if is_metric(name) else "1"


def label_of(name: str) -> str:
    """Return the label of a metric, or of another measure of the tables, for figures."""
    if is_metric(name):
        return metric(name).label
    return name.capitalize() if name.islower() else name
