"""`python -m analogmed.search importance`: how important each block of trained supernetworks is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analogmed.cli import parse
from analogmed.config import require_at_least_one
from analogmed.foundation.errors import ConfigError
from analogmed.report.importance_figures import importance_heat_map
from analogmed.search.operations import importance_table, write_importance
from analogmed.search.shared_weights import SharedWeights

EXAMPLES = """examples:
  python -m analogmed.search importance --supernets runs/supernet/phantom_brain-spos
      importance.csv and figures/importance.png, into runs/importance/
  python -m analogmed.search importance --supernets runs/brain runs/nuclei --n 64 --out runs/both
      of two tasks, over more networks

docs/search-methods.md explains the score.
"""

FIGURE = "figures/importance.png"
"""Path of the figure in a run folder."""


@dataclass(frozen=True)
class ImportanceConfig:
    """Importance of the blocks of supernetworks.

    Attributes:
        supernets: run folders of trained supernetworks.
        n: networks that hold a block, over which is averaged.
        seed: of their draw.
        out: where table and figure go.
    """

    supernets: tuple[Path, ...] = ()
    n: int = 32
    seed: int = 0
    out: Path = Path("runs/importance")

    def __post_init__(self) -> None:
        require_at_least_one("n", self.n)
        if not self.supernets:
            raise ConfigError(
                "supernets: name the run folder of a trained supernetwork, or train one with "
                "'python -m analogmed.search supernet'"
            )


def report_importance(
    supernets: Sequence[Path | str], folder: Path, *, n: int = 32, seed: int = 0
) -> pd.DataFrame:
    """Write ``importance.csv`` and ``figures/importance.png``.

    Args:
        supernets: run folders of trained supernetworks.
        folder: where to.
        n: networks that hold a block, over which is averaged.
        seed: of their draw.

    Returns:
        the table, as :func:`analogmed.search.operations.importance_table` returns it, with the run
        folder of each supernetwork in the column ``supernet``.

    Raises:
        CheckpointError: a run folder holds no trained supernetwork.
        DataError: pruning has left no level a choice of blocks.
    """
    folders = dict.fromkeys(Path(one) for one in supernets)
    tables = [
        importance_table(SharedWeights.load(one), n=n, seed=seed).assign(supernet=str(one))
        for one in folders
    ]
    table = pd.concat(tables, ignore_index=True)
    write_importance(table, folder)
    importance_heat_map(table, folder / FIGURE)
    return table


def main(arguments: list[str]) -> None:
    """Write table and figure, and say where they are."""
    config = parse(ImportanceConfig, arguments, prog="analogmed.search importance", epilog=EXAMPLES)
    table = report_importance(config.supernets, config.out, n=config.n, seed=config.seed)
    one = ["supernet", "task"] if table["supernet"].nunique() > 1 else ["task"]
    best = table.loc[table.groupby([*one, "level"], sort=False)["importance"].idxmax()]
    print(best[[*one, "level", "block", "importance"]].to_string(index=False))
    print(f"most important of each level; all of them: {config.out}/importance.csv, figures/")
