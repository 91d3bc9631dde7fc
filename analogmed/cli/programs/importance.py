"""Program of ``analogmed search importance``: block importance in trained supernetworks."""

from analogmed.search.supernet.operations import report_importance
from analogmed.search.supernet.settings import ImportanceConfig


def run(settings: ImportanceConfig) -> None:
    """Write the table and the figure, and print their paths."""
    table = report_importance(settings.supernets, settings.out, n=settings.n, seed=settings.seed)
    one = ["supernet", "task"] if table["supernet"].nunique() > 1 else ["task"]
    best = table.loc[table.groupby([*one, "level"], sort=False)["importance"].idxmax()]
    print(best[[*one, "level", "block", "importance"]].to_string(index=False))
    print(f"most important of each level; all of them: {settings.out}/importance.csv, figures/")
