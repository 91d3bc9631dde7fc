import math
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from analogmed.foundation import registry as plugins
from analogmed.foundation.errors import ConfigError
from analogmed.metrics import registry
from analogmed.metrics.case import case_metrics
from analogmed.metrics.metric import EmptyValues, Metric
from analogmed.metrics.notes import BOTH_EMPTY, MISSED, SPURIOUS
from analogmed.metrics.registry import METRICS, metric, metric_names
from analogmed.metrics.structure import Structure

VOLUME_ERROR = Metric(
    "volume_error",
    "Volume error",
    lambda structure: abs(int(structure.pred.sum()) / int(structure.ref.sum()) - 1),
    direction="lower",
    bounds=(0.0, math.inf),
    empty=EmptyValues(missed=1.0, spurious=math.nan),
)
NO_METRIC = "volume_error"
RETURNS_NONE = replace(VOLUME_ERROR, score=lambda structure: None)
TAKES_TWO = replace(VOLUME_ERROR, score=lambda pred, ref: 0.0)
RAISES = replace(VOLUME_ERROR, score=lambda structure: {}["no such key"])


@pytest.fixture
def installed(monkeypatch):
    def install(value):
        point = EntryPoint("volume_error", value, registry.PLUGIN_GROUP)
        monkeypatch.setattr(
            plugins,
            "installed_plugins",
            lambda group: [point] if group == registry.PLUGIN_GROUP else [],
        )
        registry.metric.cache_clear()

    yield install
    registry.metric.cache_clear()


def structure(pred, ref):
    return Structure(np.array([pred], bool), np.array([ref], bool), (1.0,), 1.0)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_keeps_what_it_declares(name):
    found = metric(name)
    assert (found.name, found.label != "") == (name, True)
    low, high = found.bounds
    same = structure([0, 1, 1, 0], [0, 1, 1, 0])
    best = {"higher": high, "lower": low}[found.direction]
    assert found.value(same) == (best, "")
    worse, note = found.value(structure([1, 1, 0, 0], [0, 1, 1, 0]))
    assert note == ""
    assert low <= worse <= high
    assert worse == best or (worse < best) == (found.direction == "higher")
    for masks, empty_note in (
        (([0, 0], [0, 1]), MISSED),
        (([0, 1], [0, 0]), SPURIOUS),
        (([0, 0], [0, 0]), BOTH_EMPTY),
    ):
        value, note = found.value(structure(*masks))
        assert note == empty_note
        assert math.isnan(value) or low <= value <= high


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="unknown metric 'dise'; did you mean 'dice'"):
        metric("dise")


def test_a_metric_of_an_installed_package_is_one_like_ours(installed):
    installed(f"{__name__}:VOLUME_ERROR")
    assert metric_names()[: len(METRICS)] == METRICS
    assert metric_names()[-1] == "volume_error"
    label = np.array([[0, 1, 1, 1], [0, 0, 0, 0]], np.uint8)
    pred = np.array([[0, 0, 1, 1], [0, 0, 0, 0]], np.uint8)
    (row,) = case_metrics(
        pred, label, n_classes=1, spacing=(1.0,), tolerance=1.0, unit="mm", metrics=["volume_error"]
    )
    assert (row.metric, row.unit, row.note) == ("volume_error", "1", "")
    assert row.value == pytest.approx(1 / 3)


@pytest.mark.parametrize("value", ["NO_METRIC", "structure"])
def test_a_plugin_that_is_no_metric_is_named(installed, value):
    installed(f"{__name__}:{value}")
    with pytest.raises(ConfigError, match=r"metric 'volume_error': plugin .* expected"):
        metric("volume_error")


@pytest.mark.parametrize("value", ["RETURNS_NONE", "TAKES_TWO", "RAISES"])
def test_a_score_of_a_plugin_that_fails_is_named(installed, value):
    installed(f"{__name__}:{value}")
    message = rf"metric 'volume_error': plugin .*{value} of .* expected a score \(structure\) that"
    with pytest.raises(ConfigError, match=message):
        metric("volume_error").value(structure([0, 1], [0, 1]))
