"""Progress bar of a whole sweep: finished cases of all workers, and the remaining time."""

from collections.abc import Iterable
from typing import Self

from analogmed.execution.unit import Unit
from analogmed.foundation.progress import ProgressBar


class Progress:
    """Counter of the cases of units.

    The total can grow. Cases that an engine does not report are added when their unit finishes.

    Args:
        cases: number of cases of one pass.
    """

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._counted: dict[str, int] = {}
        self._bar = ProgressBar(0, unit="case", title="start and calibration")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def done(self) -> int:
        """Number of finished cases."""
        return self._bar.done

    def expect(self, units: Iterable[Unit]) -> None:
        """Add units to the total."""
        self._bar.expect(sum(unit.passes for unit in units) * self._cases)

    def case(self, unit: Unit) -> None:
        """Count one finished case of a unit."""
        self._counted[unit.key] = self._counted.get(unit.key, 0) + 1
        self._bar.describe(unit.title)
        self._bar.update()

    def finish(self, unit: Unit) -> None:
        """Count a unit as finished, with any number of reported or repeated cases."""
        whole = unit.passes * self._cases
        self._bar.update(whole - self._counted.get(unit.key, 0))
        self._counted[unit.key] = whole
