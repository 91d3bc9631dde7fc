"""Program of ``analogmed search``: search for networks with a high on-chip score and low cost."""

import time
from typing import TYPE_CHECKING

from analogmed.cli.study import next_command
from analogmed.foundation.progress import log_to_stderr
from analogmed.report.tables.search import render_front
from analogmed.search.run import LOGGER, search
from analogmed.search.settings import SearchConfig
from analogmed.search.winner import evaluation_of
from analogmed.training.log import LOGGER as TRAINING

if TYPE_CHECKING:
    from pandas import Series


def run(config: SearchConfig) -> None:
    """Run the search; print the Pareto front and the command that evaluates the best network."""
    start = time.monotonic()
    with log_to_stderr(LOGGER), log_to_stderr(TRAINING):
        found = search(config)
    print(render_front(found.front, list(config.objectives)), end="")
    counts = _counts(found.candidates["status"])
    print(f"{counts}, {time.monotonic() - start:.0f} s; tables, figures: {config.folder}/")
    if found.winner is None:
        print(f"{found.in_work} networks still run elsewhere; the last process trains the winner")
        return
    experiment = evaluation_of(config, found.winner, found.best[1])
    print(f"evaluate {found.winner} on the test patients with")
    print(next_command("eval", experiment))


def _counts(status: "Series[str]") -> str:
    counts = status.value_counts()
    parts = [f"{counts[name]} {words}" for name, words in _STATUS.items() if name in counts]
    return "networks: " + ", ".join(parts)


_STATUS = {
    "evaluated": "evaluated",
    "failed": "failed",
    "infeasible": "beyond a constraint",
    "known": "proposed again",
    "lost": "lost with their process",
}
"""Values of the column ``status`` of ``candidates.csv``, in words."""
