"""Metrics by name: the built-in ones, and those of installed packages."""

from functools import cache
from importlib import import_module

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.registry import described, find_plugin, load_plugin, plugin_names
from analogmed.foundation.text import nearest
from analogmed.metrics.metric import Metric

PLUGIN_GROUP = "analogmed.metrics"
"""Entry points of a package with metrics: a name, and the :class:`Metric` of this name."""

_BUILT_IN = {
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
METRICS = tuple(_BUILT_IN)
"""Names of the built-in metrics."""


def metric_names() -> tuple[str, ...]:
    """Return the names of all metrics, those of installed packages last."""
    return (*METRICS, *sorted(plugin_names(PLUGIN_GROUP) - set(METRICS)))


@cache
def metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        ConfigError: unknown name; or several packages define it, or one that is no metric.
    """
    plugin = find_plugin(PLUGIN_GROUP, name, kind="metric", is_built_in=name in _BUILT_IN)
    if plugin is not None:
        expected = f"analogmed.metrics.metric.Metric with the name '{name}'"
        loaded = load_plugin(plugin, kind="metric", expected=expected)
        if not isinstance(loaded, Metric) or loaded.name != name:
            raise ConfigError(f"{described('metric', plugin)} is {loaded!r}; expected {expected}")
        return loaded
    if name not in _BUILT_IN:
        raise ConfigError(f"unknown metric '{name}': {nearest(name, metric_names())}")
    module, _, attribute = _BUILT_IN[name].partition(":")
    found: Metric = getattr(import_module(module), attribute)
    return found


def is_metric(name: str) -> bool:
    """Return whether a metric has this name."""
    return name in metric_names()


def label_of(name: str) -> str:
    """Return the label of a metric, or of another measure of the tables, for figures."""
    return metric(name).label if is_metric(name) else name.capitalize()
