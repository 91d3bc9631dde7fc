"""Goals of a search: objectives to optimise, and constraints to meet."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import known_name, nearest
from analogmed.metrics.registry import PRIMARY, metric_names
from analogmed.tables.estimates import find_objective, is_minimized, shown_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

Direction = Literal["maximize", "minimize"]
_CONSTRAINT = re.compile(r"\s*([\w-]+)\s*(<=|>=)\s*(\S+)\s*")


def objectives_of(metric: str, *, primary: bool = True) -> dict[str, Direction]:
    """Return the objectives that are estimates of a metric, and their directions.

    Args:
        metric: name of a metric.
        primary: whether it is the primary metric of the task, for estimates that are not named
            after their metric.
    """
    return {
        estimate.column(metric, primary=primary): (
            "minimize" if estimate.is_lower_better(metric) else "maximize"
        )
        for estimate in shown_in("search")
    }


COUNTED = ("parameters", "tiles", "latency_ms", "energy_mj")
"""Metrics that need no training."""
NOT_SCORED = ("uncertainty", *COUNTED)
"""Metrics that are not scores; all are minimised."""
METRICS: Mapping[str, Direction] = MappingProxyType(
    {**objectives_of(PRIMARY), **dict.fromkeys(NOT_SCORED, "minimize")}
)
"""Metrics of candidates of segmentation tasks, and the direction of improvement.

The estimates of Dice stand for those of every metric of the registry: ``hd95_1d`` is that of HD95,
and ``hd95_avm_drop`` its change over a month. ``avm_drop`` is that of the primary metric of the
task, whatever it is.

Dice is the mean over selection patients and chips: one day after programming (``dice_1d``, and its
standard deviation over chips), right after it, after a month, and of the network run digitally.
``avm_drop`` is Dice at one second minus Dice at one month. ``latency_ms`` and ``energy_mj`` are
estimates for one slice by the profile of a chip.
"""


def _known() -> set[str]:
    """Return the names of all objectives, those of each metric with its name."""
    of_metrics = {e.column(m, primary=False) for m in metric_names() for e in shown_in("search")}
    return of_metrics.union(METRICS)


def spelled_objective(name: str) -> str:
    """Return the objective that a text spells in any case, or the text if it is none."""
    return known_name(name, _known())


def spelled_constraint(text: str) -> str:
    """Return a constraint with the name of its metric as :func:`spelled_objective` returns it."""
    found = _CONSTRAINT.fullmatch(text)
    return text.replace(found[1], spelled_objective(found[1]), 1) if found else text


def direction_of(name: str) -> Direction:
    """Return the direction of improvement of an objective.

    Raises:
        ConfigError: the name is unknown.

    Example:
        >>> direction_of("dice_1d"), direction_of("hd95_1d"), direction_of("tiles")
        ('maximize', 'minimize', 'minimize')
    """
    if name not in METRICS and find_objective(name, PRIMARY) is None:
        raise ConfigError(f"unknown metric '{name}'; {nearest(name, _known())}")
    return "minimize" if is_minimized(name, PRIMARY) else "maximize"


@dataclass(frozen=True)
class Constraint:
    """Bound on a metric.

    Attributes:
        metric: name of an objective.
        sense: ``"<="`` or ``">="``.
        bound: limit, which itself is allowed.
    """

    metric: str
    sense: Literal["<=", ">="]
    bound: float

    @classmethod
    def of(cls, text: str) -> "Constraint":
        """Parse a constraint, for instance ``"tiles <= 40"``.

        Raises:
            ConfigError: the text is not a constraint, or names an unknown metric.
        """
        found = _CONSTRAINT.fullmatch(text)
        try:
            bound = float(found[3]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound):
            raise ConfigError(
                f"constraint {text!r}: expected a metric, <= or >=, and a number, for instance "
                "'tiles <= 40'"
            )
        _check_metric("constraint", metric := spelled_objective(found[1]))
        return cls(metric, "<=" if found[2] == "<=" else ">=", bound)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return the violation: 0 or less where the constraint is met, infinite without the metric.

        The violation is a share of the bound, so that tiles and Dice can be added up; for a bound
        of 0 it is in the metric's own unit.

        Source: Deb 2000, doi:10.1016/S0045-7825(99)00389-8, of adding up constraints.
        """
        value = metrics.get(self.metric, math.nan)
        return math.inf if math.isnan(value) else float(self.beyond(value))

    def beyond(self, value: "ArrayLike") -> "np.ndarray":
        """Return the violation for values of the metric, of any shape."""
        import numpy as np  # not needed to check settings

        over = np.asarray(value, dtype=np.float64) - self.bound
        return (over if self.sense == "<=" else -over) / (abs(self.bound) or 1.0)

    def __str__(self) -> str:
        return f"{self.metric} {self.sense} {self.bound:g}"


@dataclass(frozen=True)
class Goal:
    """Objectives and constraints; the first objective is used where one number is needed.

    Attributes:
        objectives: names in :data:`METRICS`, or estimates of other metrics, such as ``hd95_1d``.
        constraints: constraints, all of which must be met.
    """

    objectives: tuple[str, ...] = ("dice_1d",)
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ConfigError("objectives: give at least one, for instance dice_1d")
        for name in self.objectives:
            _check_metric("objectives", name)
        if len(set(self.objectives)) < len(self.objectives):
            raise ConfigError(f"objectives: one is given twice in {', '.join(self.objectives)}")

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of improvement of each objective."""
        return tuple(map(direction_of, self.objectives))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics that the objectives and constraints need."""
        return tuple(dict.fromkeys((*self.objectives, *(c.metric for c in self.constraints))))

    @property
    def estimated(self) -> tuple[str, ...]:
        """Metrics of predictions that are named by the objectives and constraints.

        The primary metric of the task, which is always estimated, need not be one of them.
        """
        of_any_metric = {estimate.pattern for estimate in shown_in("search")}
        found = (
            find_objective(name, PRIMARY) for name in self.metrics if name not in of_any_metric
        )
        return tuple(dict.fromkeys(metric for _, metric in filter(None, found)))

    @property
    def spreads(self) -> tuple[str, ...]:
        """Those of the metrics that are standard deviations over chips."""
        found = ((name, find_objective(name, PRIMARY)) for name in self.metrics)
        return tuple(name for name, one in found if one and one[0].formula == "spread")

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return the values of the objectives."""
        return tuple(metrics[name] for name in self.objectives)

    def violations(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return the violation of each constraint, as a share of its bound; at most 0 if met."""
        return tuple(constraint.violation(metrics) for constraint in self.constraints)

    def known_violations(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return the same, with 0 for a constraint on a metric that is not available yet."""
        return tuple(
            constraint.violation(metrics) if constraint.metric in metrics else 0.0
            for constraint in self.constraints
        )

    def loss(self, metrics: Mapping[str, float]) -> float:
        """Return the first objective as a number to minimise."""
        value = metrics[self.objectives[0]]
        return value if self.directions[0] == "minimize" else -value


def _check_metric(where: str, name: str) -> None:
    try:
        direction_of(name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def best_first(metrics: Sequence[Mapping[str, float]], goal: Goal) -> list[int]:
    """Return the order of candidates: by total violation, then by the first objective."""

    def rank(number: int) -> tuple[float, float]:
        broken = sum(max(violation, 0.0) for violation in goal.violations(metrics[number]))
        return broken, goal.loss(metrics[number])

    return sorted(range(len(metrics)), key=rank)
