"""`python -m analogmed.search supernet`: training of the shared weights of a search space."""

import os
import shlex
import sys

from analogmed.cli.options import to_options
from analogmed.cli.parse import parse
from analogmed.foundation.logs import log_to_stderr
from analogmed.search.settings import SearchConfig, StrategyConfig
from analogmed.search.supernet.settings import SupernetConfig

EXAMPLES = """examples:
  python -m analogmed.search supernet --space.depths 1 2 3 --epochs 20
      a supernetwork of the embedded brain phantom, one random network a step (SPOS), into
      runs/supernet/phantom_brain-spos/
  python -m analogmed.search supernet --rule fairnas
      each operation of each level once a step, so that none is better trained than another
  python -m analogmed.search supernet --rule sandwich
      the largest, the smallest and two other networks a step; the largest teaches the others
  python -m analogmed.search supernet --config configs/supernet-mias-brain.yaml
      the MIAS loss, 10 networks a step, and pruning, with the settings of the poster
  python -m analogmed.search supernet --rule gumbel --paths 4 --loss.latency 0.3
      operations are drawn by weights that are learned from the loss and from their latency
  python -m analogmed.search supernet --trace 50 --trace_every 2
      follow how well 50 networks do with the shared weights while these are trained, in trace.csv
  torchrun --nproc-per-node 2 -m analogmed.search supernet --device cuda --batch_size 16
      on two GPUs, which share each batch

A run that was interrupted goes on after its last epoch when the same command is given again.
docs/search-methods.md explains the sampling rules, the loss and pruning.
"""


def main(arguments: list[str]) -> None:
    """Train the supernetwork and print a summary of the result."""
    prog = "analogmed.search supernet"
    config = parse(SupernetConfig, arguments, prog=prog, epilog=EXAMPLES)
    from analogmed.search.supernet.run import train_supernet  # takes seconds: not for --help
    from analogmed.training.log import LOGGER

    try:
        with log_to_stderr(LOGGER):
            path = train_supernet(config)
    except KeyboardInterrupt:
        print(f"the same command goes on after the last epoch in {config.folder}", file=sys.stderr)
        raise
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"{path}: shared weights of {config.space.size:,} gene combinations")
        print(f"log and curves: {config.folder}/; search with these weights by")
        print(shlex.join(["python", "-m", "analogmed.search", *to_options(search_with(config))]))


def search_with(config: SupernetConfig) -> SearchConfig:
    """Return the settings of a search on the same space and data with the shared weights."""
    return SearchConfig(
        task=config.task,
        space=config.space,
        strategy=StrategyConfig("mias" if len(config.tasks) == 1 else "mt_mias"),
        supernets={task.name: config.folder for task in config.tasks},
    )
