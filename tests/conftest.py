"""Fixtures of all tests.

The process that distributes the tests to others loads this file and runs none, and the others start
after it: imports that take seconds are in the fixtures.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from analogmed.config import TaskConfig
    from analogmed.report.runs import Run
    from analogmed.training import TrainConfig


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the modules that tests import out of all searches for garbage, which take seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have the most slow tests, then with the largest ones.

    Processes that share the tests by file then end at the same time.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    number = Counter(item.path for item in items)
    items.sort(key=lambda item: (-slow[item.path], -number[item.path], item.path))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real test data sets, which are not part of the repository."""
    beside_the_repository = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ANALOGMED_SHARED_DATA", beside_the_repository))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set ANALOGMED_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Generated data go to a temporary folder, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANALOGMED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def program() -> Iterator[Callable[[str, str], ModuleType]]:
    """Imports a program by its folder and name, with the modules that lie beside it."""
    repository = Path(__file__).parents[1]
    with pytest.MonkeyPatch.context() as patch:

        def imported(folder: str, name: str) -> ModuleType:
            patch.syspath_prepend(str(repository / folder))
            return importlib.import_module(name)

        yield imported


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    """Six patients of eight slices, 32 x 32: three to train, one to validate, two to test."""
    from analogmed.config import TaskConfig

    return TaskConfig(
        root=tmp_path_factory.mktemp("phantom"),
        options={"phantom_patients": 6, "phantom_size": 32},
    )


@pytest.fixture(scope="session")
def tiny_training(tiny_task: TaskConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A digital training run of a few seconds; ``tiny_digital`` is its result."""
    from analogmed.config import ModelConfig
    from analogmed.training import OptimizerConfig, TrainConfig

    return TrainConfig(
        task=tiny_task,
        model=ModelConfig("unet", {"features": 4}),
        epochs=20,
        batch_size=4,
        validate_every=10,
        optimizer=OptimizerConfig(learning_rate=0.01),
        out=tmp_path_factory.mktemp("trained") / "digital",
    )


@pytest.fixture(scope="session")
def tiny_digital(tiny_training: TrainConfig) -> Path:
    """Checkpoint of a small U-Net, trained digitally on the tiny task."""
    from analogmed.training import train

    return train(tiny_training)


@pytest.fixture(scope="session")
def tiny_hwa(
    tiny_task: TaskConfig, tiny_digital: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same network after training for the default chip, whatever its score."""
    from analogmed.training import OptimizerConfig, TrainConfig, loop, train
    from analogmed.training.history import EpochRecord

    config = TrainConfig(
        task=tiny_task,
        training="hwa",
        init=tiny_digital,
        epochs=2,
        validation_chips=1,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        out=tmp_path_factory.mktemp("trained") / "hwa",
    )
    start = EpochRecord(0, 0, math.nan, math.nan, math.nan, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_validated_start", lambda *_: start)
        return train(config)


@pytest.fixture
def read_back(tmp_path: Path) -> Callable[[Path], Run]:
    """Function that reads a run folder of a program, checks its columns and makes its page."""
    from analogmed.report.kinds.registry import kind_of
    from analogmed.report.runs import read_run
    from analogmed.report.writer import write_report
    from analogmed.tables.robustness import COSTS

    def read(folder: Path) -> Run:
        run = read_run(folder)
        for name, table in run.tables.items():
            (listed,) = (one for one in kind_of(run.kind).tables if one.name == name)
            columns = listed.columns_for(list(table.columns))
            assert set(columns.optional) - set(COSTS) <= set(table.columns), f"{run.kind}, {name}"
        page, *_ = write_report([folder], tmp_path / "page")
        assert run.name in page.read_text(encoding="utf-8")
        return run

    return read
