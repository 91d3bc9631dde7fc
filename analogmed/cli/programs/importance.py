"""`python -m analogmed.search importance`: block importance in trained supernetworks."""

from analogmed.cli.parse import parse
from analogmed.search.supernet.settings import ImportanceConfig

EXAMPLES = """examples:
  python -m analogmed.search importance --supernets runs/supernet/phantom_brain-spos
      importance.csv and figures/importance.png, into runs/importance/
  python -m analogmed.search importance --supernets runs/brain runs/nuclei --n 64 --out runs/both
      of two tasks, over more networks

docs/search-methods.md explains the score.
"""


def main(arguments: list[str]) -> None:
    """Write the table and the figure, and print their paths."""
    config = parse(ImportanceConfig, arguments, prog="analogmed.search importance", epilog=EXAMPLES)
    from analogmed.search.supernet.operations import report_importance  # not for --help

    table = report_importance(config.supernets, config.out, n=config.n, seed=config.seed)
    one = ["supernet", "task"] if table["supernet"].nunique() > 1 else ["task"]
    best = table.loc[table.groupby([*one, "level"], sort=False)["importance"].idxmax()]
    print(best[[*one, "level", "block", "importance"]].to_string(index=False))
    print(f"most important of each level; all of them: {config.out}/importance.csv, figures/")
