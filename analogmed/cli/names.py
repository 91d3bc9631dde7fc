"""Check of the names in settings before anything heavy is imported."""

import dataclasses
from collections.abc import Callable
from typing import Any

from analogmed.data.settings import TaskConfig
from analogmed.evaluation.settings import Experiment
from analogmed.hardware.profiles import load_profile
from analogmed.metrics.registry import check_metric_name
from analogmed.models.registry import check_model_name
from analogmed.models.settings import ModelConfig
from analogmed.search.supernet.settings import LatencyConfig


def check_names(settings: Any) -> None:
    """Raise ConfigError if a task, network, metric or profile of the settings is unknown.

    Args:
        settings: settings of a command.
    """
    for kind, check in _CHECKS.items():
        if isinstance(settings, kind):
            check(settings)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_names(value)


def _check_task(task: TaskConfig) -> None:
    from analogmed.data.tasks import check_task_name  # imports the readers of all data sets

    check_task_name(task.name)


def _check_experiment(experiment: Experiment) -> None:
    for name in experiment.metrics:
        check_metric_name(name)
    if experiment.profile is not None:
        load_profile(experiment.profile).figures(experiment.level)


_CHECKS: dict[type, Callable[[Any], object]] = {
    TaskConfig: _check_task,
    ModelConfig: lambda model: check_model_name(model.name),
    Experiment: _check_experiment,
    LatencyConfig: lambda latency: load_profile(latency.profile).figures(latency.level),
}
