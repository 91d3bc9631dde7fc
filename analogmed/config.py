"""Settings of runs: frozen dataclasses, to YAML and back; each is defined in its package."""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.analog.description.hardware import Hardware as Hardware
    from analogmed.analog.settings import CalibrationConfig as CalibrationConfig
    from analogmed.analog.settings import resolve_layers as resolve_layers
    from analogmed.data.settings import TaskConfig as TaskConfig
    from analogmed.evaluation.settings import DEFAULT_TIMES_S as DEFAULT_TIMES_S
    from analogmed.evaluation.settings import Experiment as Experiment
    from analogmed.evaluation.settings import SweepConfig as SweepConfig
    from analogmed.execution.settings import EngineConfig as EngineConfig
    from analogmed.foundation.settings.checks import require_at_least_one as require_at_least_one
    from analogmed.foundation.settings.checks import require_at_least_zero as require_at_least_zero
    from analogmed.foundation.settings.paths import read_settings as read_settings
    from analogmed.foundation.settings.plain import to_plain as to_plain
    from analogmed.foundation.settings.plain import to_yaml as to_yaml
    from analogmed.foundation.time_constants import DAY_S as DAY_S
    from analogmed.foundation.time_constants import HOUR_S as HOUR_S
    from analogmed.foundation.time_constants import MONTH_S as MONTH_S
    from analogmed.foundation.time_constants import SECOND_S as SECOND_S
    from analogmed.foundation.time_constants import T0_S as T0_S
    from analogmed.foundation.time_constants import YEAR_S as YEAR_S
    from analogmed.models.settings import ModelConfig as ModelConfig

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CalibrationConfig": "analogmed.analog.settings",
        "DAY_S": "analogmed.foundation.time_constants",
        "DEFAULT_TIMES_S": "analogmed.evaluation.settings",
        "EngineConfig": "analogmed.execution.settings",
        "Experiment": "analogmed.evaluation.settings",
        "HOUR_S": "analogmed.foundation.time_constants",
        "Hardware": "analogmed.analog.description.hardware",
        "MONTH_S": "analogmed.foundation.time_constants",
        "ModelConfig": "analogmed.models.settings",
        "SECOND_S": "analogmed.foundation.time_constants",
        "SweepConfig": "analogmed.evaluation.settings",
        "T0_S": "analogmed.foundation.time_constants",
        "TaskConfig": "analogmed.data.settings",
        "YEAR_S": "analogmed.foundation.time_constants",
        "read_settings": "analogmed.foundation.settings.paths",
        "require_at_least_one": "analogmed.foundation.settings.checks",
        "require_at_least_zero": "analogmed.foundation.settings.checks",
        "resolve_layers": "analogmed.analog.settings",
        "to_plain": "analogmed.foundation.settings.plain",
        "to_yaml": "analogmed.foundation.settings.plain",
    },
)
