"""Programs of ``analogmed search supernet`` and ``importance``: shared weights of a space."""

from analogmed.cli.study import is_first_process, logged_training, next_command
from analogmed.execution.run_folder import RunFolder, in_run_folder
from analogmed.search.settings import SearchConfig, StrategyConfig
from analogmed.search.supernet.operations import FIGURE, importance_of, report_importance
from analogmed.search.supernet.run import train_supernet
from analogmed.search.supernet.settings import ImportanceConfig, SupernetConfig
from analogmed.tables.search import IMPORTANCE


def run(config: SupernetConfig) -> None:
    """Train the supernetwork and print a summary of the result."""
    with logged_training(config.folder):
        path = train_supernet(config)
    if is_first_process():
        print(f"{path}: shared weights of {config.space.size:,} gene combinations")
        print(f"log and curves: {config.folder}/; search with these weights by")
        print(next_command("search run", search_with(config)))


def search_with(config: SupernetConfig) -> SearchConfig:
    """Return the settings of a search on the same space and data with the shared weights."""
    return SearchConfig(
        task=config.task,
        space=config.space,
        strategy=StrategyConfig("mias" if len(config.tasks) == 1 else "mt_mias"),
        supernets={task.own_name: config.folder for task in config.tasks},
    )


@in_run_folder
def run_importance(settings: ImportanceConfig) -> None:
    """Write table and figure of block importance, and print the most important blocks."""
    folder = RunFolder(settings.folder, [IMPORTANCE, FIGURE], settings="importance.yaml")
    folder.begin()
    table = importance_of(settings.supernets, n=settings.n, seed=settings.seed)
    folder.renew(settings)
    report_importance(table, settings.out)
    one = ["supernet", "task"] if table["supernet"].nunique() > 1 else ["task"]
    best = table.loc[table.groupby([*one, "level"], sort=False)["importance"].idxmax()]
    print(best[[*one, "level", "block", "importance"]].to_string(index=False))
    print(f"most important of each level; all of them: {settings.out}/importance.csv, figures/")
