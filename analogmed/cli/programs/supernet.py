"""Program of ``analogmed search supernet``: training of the shared weights of a space."""

import shlex

from analogmed.cli.options import to_options
from analogmed.cli.programs.study import is_first_process, logged_training
from analogmed.search.settings import SearchConfig, StrategyConfig
from analogmed.search.supernet.run import train_supernet
from analogmed.search.supernet.settings import SupernetConfig


def run(config: SupernetConfig) -> None:
    """Train the supernetwork and print a summary of the result."""
    with logged_training(config.folder):
        path = train_supernet(config)
    if is_first_process():
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
