"""Start of a search: the split that it fixes, and several processes that start at the same time."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from analogmed.config import TaskConfig
from analogmed.execution.run_folder import WrittenFiles
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.search import run as runner
from analogmed.search.evaluator import ChipEvaluator
from analogmed.search.run import begin, search
from analogmed.search.settings import SearchConfig, StrategyConfig
from analogmed.search.space.space import Space
from analogmed.search.trials.journal_lock import FileLock
from analogmed.search.trials.queue import ClaimedTrial, TrialQueue, TrialStatus

SPACE = Space(depths=(1, 2), blocks=("A", "C"), widths=(2, 4, 8), growths=(1,), kernels=(3,))
STARTS = 10


class Constant:
    """Metrics without any training."""

    def evaluate(self, genotype, folder):
        channels = genotype.levels[0].channels
        (folder / "hwa").mkdir(parents=True, exist_ok=True)
        return {"dice_1d": channels / 10} | self.count(genotype)

    def count(self, genotype):
        return {"tiles": 1.0, "parameters": 1.0, "latency_ms": 1.0, "energy_mj": 1.0}


@pytest.fixture
def without_training(monkeypatch):
    monkeypatch.setattr(ChipEvaluator, "evaluate", Constant.evaluate)
    monkeypatch.setattr(ChipEvaluator, "count", Constant.count)
    monkeypatch.setattr(
        "analogmed.search.run.train_winner", lambda config, number, genotype: config.folder
    )


def add_patient(root, number):
    name = f"TCGA_CS_{number:04d}_20000101"
    (root / "kaggle_3m" / name).mkdir(parents=True)
    for slice_number in (1, 2):
        stem = root / "kaggle_3m" / name / f"{name}_{slice_number}"
        pixels = np.random.default_rng(number).integers(0, 99, (16, 16, 3), dtype=np.uint8)
        tifffile.imwrite(f"{stem}.tif", pixels, photometric="rgb")
        tifffile.imwrite(f"{stem}_mask.tif", np.full((16, 16), 255, dtype=np.uint8))


@pytest.fixture
def on_files(tmp_path):
    """A search on a folder of eight patients."""
    for number in range(8):
        add_patient(tmp_path / "data", number)
    task = TaskConfig("lgg", tmp_path / "data", size=(16, 16))
    return SearchConfig(
        task=task,
        space=SPACE,
        strategy=StrategyConfig("random"),
        objectives=("dice_1d",),
        budget=2,
        out=tmp_path / "out",
    )


def test_a_search_does_not_continue_on_other_patients(on_files, without_training, tmp_path):
    search(on_files)
    before = (on_files.out / "selection.json").read_bytes()
    add_patient(tmp_path / "data", 20)
    with pytest.raises(DataError, match=r"study 'search' began with .*new: TCGA_CS_0020") as caught:
        search(replace(on_files, budget=4))
    assert "another --out" in str(caught.value)
    assert (on_files.out / "selection.json").read_bytes() == before


def test_patients_that_are_gone_are_named(on_files, without_training, tmp_path):
    search(on_files)
    gone = tmp_path / "data" / "kaggle_3m" / "TCGA_CS_0003_20000101"
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    with pytest.raises(DataError, match="missing: TCGA_CS_0003"):
        search(replace(on_files, budget=4))


@pytest.mark.slow
def test_the_same_patients_in_another_folder_continue_a_search(
    on_files, without_training, tmp_path
):
    search(on_files)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    moved = replace(on_files.task, root=tmp_path / "elsewhere")
    table = search(replace(on_files, budget=3, task=moved)).candidates
    assert (table["status"] == "evaluated").sum() == 3


@pytest.mark.slow
def test_another_machine_with_other_patients_cannot_join(on_files, without_training, tmp_path):
    shared = replace(on_files, storage=f"sqlite:///{tmp_path}/studies.db")
    search(shared)
    add_patient(tmp_path / "data", 20)
    with pytest.raises(DataError, match="new: TCGA_CS_0020"):
        search(replace(shared, out=tmp_path / "other", budget=4))


def test_a_second_study_does_not_replace_the_split_of_the_first(on_files, without_training):
    search(on_files)
    before = (on_files.out / "selection.json").read_bytes()
    with pytest.raises(ConfigError, match=r"selection\.json: holds the split of another search"):
        search(replace(on_files, study="second", seed=1))
    assert (on_files.out / "selection.json").read_bytes() == before


def test_a_file_of_the_user_is_not_replaced_by_a_search(on_files, without_training):
    on_files.out.mkdir()
    (on_files.out / "candidates.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"replace or remove candidates\.csv, which no run"):
        search(on_files)
    assert (on_files.out / "candidates.csv").read_text() == "mine"


def test_a_name_that_a_search_has_not_used_is_free(on_files, without_training):
    search(on_files)
    (on_files.out / "importance.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"replace or remove importance\.csv, which no run"):
        search(replace(on_files, budget=4))
    assert (on_files.out / "importance.csv").read_text() == "mine"


def test_a_resumed_search_keeps_optional_files_and_a_new_one_removes_them(
    on_files, without_training
):
    search(on_files)
    figure = on_files.out / "figures" / "importance.png"
    WrittenFiles(on_files.out).record("figures/importance.png")
    figure.write_text("of a run")
    take_part(replace(on_files, budget=4))
    assert figure.exists()
    take_part(replace(on_files, study="second"))
    assert not figure.exists()


def evaluate_all(ledger):
    while (claim := ledger.claim()) is not None:
        if isinstance(claim, ClaimedTrial):
            metrics = {"dice_1d": claim.genotype.levels[0].channels / 10}
            ledger.finish(claim, metrics, 1.0)


def take_part(config):
    ledger, *_ = begin(config, config.folder)
    with closing(ledger):
        evaluate_all(ledger)
    return ledger


@pytest.fixture
def on_phantom(tiny_task, tmp_path):
    return SearchConfig(
        task=tiny_task,
        space=SPACE,
        strategy=StrategyConfig("random"),
        objectives=("dice_1d",),
        budget=12,
        out=tmp_path,
    )


@pytest.mark.slow
def test_no_other_process_may_open_the_study_before_the_first_takes_part(
    on_phantom, without_training, monkeypatch
):
    """A study without trials and processes is created again, as its settings may be wrong."""

    def checked(*arguments, **options):
        assert not FileLock(on_phantom.out / ".start.lock").acquire(wait=False)
        return TrialQueue(*arguments, **options)

    monkeypatch.setattr(runner, "TrialQueue", checked)
    first, *_ = begin(on_phantom, on_phantom.folder)
    second, *_ = begin(on_phantom, on_phantom.folder)
    with closing(first), closing(second):
        evaluate_all(first)
        assert len(second.study.trials) == len(first.study.trials)


@pytest.mark.slow
def test_searches_that_start_at_once_in_one_folder_share_the_budget(on_phantom, without_training):
    with ThreadPoolExecutor(STARTS) as pool:
        ledgers = list(pool.map(take_part, [on_phantom] * STARTS))
    trials = ledgers[0].study.trials
    evaluated = [trial for trial in trials if TrialStatus.of(trial) is TrialStatus.EVALUATED]
    assert len(evaluated) == on_phantom.budget
    networks = {json.dumps(SPACE.decode(trial.params).to_dict()) for trial in evaluated}
    assert len(networks) == on_phantom.budget


@pytest.mark.slow
def test_searches_that_start_at_once_on_one_sqlite_file_share_the_budget(
    on_phantom, without_training, tmp_path
):
    storage = f"sqlite:///{tmp_path}/studies.db"
    configs = [
        replace(on_phantom, budget=8, storage=storage, out=tmp_path / str(number))
        for number in range(5)
    ]
    for config in configs:
        config.out.mkdir()
    with ThreadPoolExecutor(len(configs)) as pool:
        ledgers = list(pool.map(take_part, configs))
    trials = ledgers[0].study.trials
    evaluated = [trial for trial in trials if TrialStatus.of(trial) is TrialStatus.EVALUATED]
    assert 8 <= len(evaluated) < 8 + len(configs)
