"""`python -m analogmed.search`: search for networks with high on-chip Dice and low cost."""

import shlex
import sys
import time
from typing import TYPE_CHECKING

from analogmed.cli.options import to_options
from analogmed.cli.parse import parse
from analogmed.foundation.logs import log_to_stderr
from analogmed.search.settings import SearchConfig

if TYPE_CHECKING:
    from pandas import Series

EXAMPLES = """examples:
  python -m analogmed.search
      16 networks on the embedded brain phantom: Dice after a day on the chip against tiles
  python -m analogmed.search --engine.workers 2 --budget 40 --strategy evolution
      more of them, two at a time, by regularised evolution; a search that is done may be given a
      larger budget and goes on
  python -m analogmed.search --objectives dice_1d --constraints "tiles <= 20" "avm_drop <= 0.02"
      the best Dice within bounds
  python -m analogmed.search --space.depths 2 3 --space.blocks C E G --space.widths 8 16 32
      a space of your own; --space.places analog digital lets each block be computed digitally
  python -m analogmed.search --digital_layers head levels.0.down
      networks whose head and first block are digital; a placement.yaml of one of them lists such
  python -m analogmed.search --task lgg --task.root data/lgg --candidate.epochs 40 --out runs/lgg
      on real data
  python -m analogmed.search --storage postgresql://user@host/searches --study lgg
      started on several machines, they share one study and one budget
  python -m analogmed.search supernet --help
      train one set of weights for all networks of a space, for strategies that look at it
  python -m analogmed.search importance --help
      how important each block is in such a supernetwork

The same command goes on where it was stopped, and helps where it is running already. At the end it
prints the command that evaluates the winner on the test patients, which the search never reads.
docs/search.md tells of spaces, strategies, and the files that are written.
"""


def main(arguments: list[str]) -> None:
    """Run the search; print the Pareto front and the command that evaluates the best network."""
    config = parse(SearchConfig, arguments, prog="analogmed.search", epilog=EXAMPLES)
    from analogmed.report.tables.search import render_front  # takes seconds: not for --help
    from analogmed.search.run import LOGGER, search
    from analogmed.search.winner import evaluation_of
    from analogmed.training.log import LOGGER as TRAINING

    start = time.monotonic()
    try:
        with log_to_stderr(LOGGER), log_to_stderr(TRAINING):
            found = search(config)
    except KeyboardInterrupt as stop:
        print(stop, file=sys.stderr)
        raise
    print(render_front(found.front, list(config.objectives)), end="")
    counts = _counts(found.candidates["status"])
    print(f"{counts}, {time.monotonic() - start:.0f} s; tables, figures: {config.folder}/")
    if found.winner is None:
        print(f"{found.in_work} networks still run elsewhere; the last process trains the winner")
        return
    experiment = evaluation_of(config, found.winner, found.best[1])
    print(f"evaluate {found.winner} on the test patients with")
    print(shlex.join(["python", "-m", "analogmed.eval", *to_options(experiment)]))


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
