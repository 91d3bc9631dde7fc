"""One bar for a whole sweep: cases done by all workers, and the time that remains."""

from collections.abc import Iterable
from types import TracebackType

from tqdm import tqdm

from analogmed.execution.unit import Unit


class Progress:
    """Counts cases of units. Its total may grow, and what an engine does not tell is made up for.

    Args:
        cases: how many cases a pass goes through.
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
        """Cases that are done."""
        return int(self._bar.n) if not self._bar.disable else sum(self._counted.values())

    def expect(self, units: Iterable[Unit]) -> None:
        """Add units to the whole."""
        self._bar.total += sum(unit.passes for unit in units) * self._cases
        self._bar.refresh()

    def case(self, unit: Unit) -> None:
        """One case of a unit is done."""
        self._counted[unit.key] = self._counted.get(unit.key, 0) + 1
        self._bar.set_description(unit.title, refresh=False)
        self._bar.update()

    def finish(self, unit: Unit) -> None:
        """A unit is done, however many of its cases were told, and told again by a second try."""
        whole = unit.passes * self._cases
        self._bar.update(whole - self._counted.get(unit.key, 0))
        self._counted[unit.key] = whole
