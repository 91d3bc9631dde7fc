"""Progress bar of a whole sweep: finished cases of all workers, and the remaining time."""

from collections.abc import Iterable
from types import TracebackType

from tqdm import tqdm

from analogmed.execution.unit import Unit


class Progress:
    """Counter of the cases of units.

    The total can grow. Cases that an engine does not report are added when their unit finishes.

    Args:
        cases: number of cases of one pass.
    """

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._counted: dict[str, int] = {}
        self._bar = tqdm(total=0, unit="case", disable=None, smoothing=0.05)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    @property
    def done(self) -> int:
        """Number of finished cases."""
        return int(self._bar.n) if not self._bar.disable else sum(self._counted.values())

    def expect(self, units: Iterable[Unit]) -> None:
        """Add units to the total."""
        self._bar.total += sum(unit.passes for unit in units) * self._cases
        self._bar.refresh()

    def case(self, unit: Unit) -> None:
        """Count one finished case of a unit."""
        self._counted[unit.key] = self._counted.get(unit.key, 0) + 1
        self._bar.set_description(unit.title, refresh=False)
        self._bar.update()

    def finish(self, unit: Unit) -> None:
        """Count a unit as finished, with any number of reported or repeated cases."""
        whole = unit.passes * self._cases
        self._bar.update(whole - self._counted.get(unit.key, 0))
        self._counted[unit.key] = whole
