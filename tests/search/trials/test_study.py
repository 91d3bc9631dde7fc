import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from analogmed.config import EngineConfig, TaskConfig
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.search.settings import SearchConfig, StrategyConfig
from analogmed.search.space.space import Space
from analogmed.search.trials.study import open_study, refuse_other_supernets


@pytest.fixture
def config(tmp_path):
    return SearchConfig(out=tmp_path, objectives=("dice_1d",), strategy=StrategyConfig("random"))


def add(study, value):
    trial = study.ask()
    study.tell(trial, value)


def test_a_study_is_there_again_when_it_is_opened_again(config):
    add(open_study(config), 0.5)
    study = open_study(config)
    assert [trial.value for trial in study.trials] == [0.5]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE"]


def test_the_journal_is_lines_of_json(config, tmp_path):
    add(open_study(config), 0.5)
    lines = (tmp_path / "study.log").read_text().splitlines()
    assert len(lines) > 2
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_the_piece_of_a_line_that_a_killed_process_left_does_no_harm(config, tmp_path):
    add(open_study(config), 0.5)
    whole = (tmp_path / "study.log").read_bytes()
    for piece in (b'{"op_code":5,"tri', b"x" * 10_000):
        (tmp_path / "study.log").write_bytes(whole + piece)
        study = open_study(config)
        assert [trial.value for trial in study.trials] == [0.5]
        add(study, 0.7)
        assert [trial.value for trial in open_study(config).trials] == [0.5, 0.7]


WRITER = """
import sys
from pathlib import Path
from optuna.storages.journal import JournalFileBackend
from analogmed.search.trials.journal_lock import JournalLock
path = Path(sys.argv[1])
journal = JournalFileBackend(str(path), lock_obj=JournalLock(path))
for number in range(100):
    journal.append_logs([{"from": sys.argv[2], "number": number}])
"""


@pytest.mark.slow
def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "study.log"
    path.touch()
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("a", "b")
    ]
    assert [process.wait() for process in running] == [0, 0]
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("a", "b"):
        assert [line["number"] for line in found if line["from"] == name] == list(range(100))


@pytest.mark.slow
def test_a_database_keeps_a_study_for_several_machines(config, tmp_path):
    shared = replace(config, storage=f"sqlite:///{tmp_path}/studies.db", study="mine")
    add(open_study(shared), 0.5)
    other_machine = replace(shared, out=tmp_path / "elsewhere")
    assert [trial.value for trial in open_study(other_machine).trials] == [0.5]
    assert open_study(replace(shared, study="another")).trials == []


def test_settings_with_which_no_search_began_may_be_corrected(config):
    open_study(replace(config, objectives=("dice_1d", "tiles"), task=TaskConfig("phantom_brian")))
    study = open_study(config)
    assert study.user_attrs["configuration"]["task"]["name"] == "phantom_brain"
    assert len(study.directions) == 1


def test_other_settings_are_refused_one_by_one(config):
    add(open_study(config), 0.5)
    other = replace(config, seed=1, space=Space(widths=(4,)), constraints=("tiles <= 4",))
    with pytest.raises(ConfigError) as caught:
        open_study(other)
    assert "  seed: 0 -> 1\n" in str(caught.value)
    assert "  space.widths: [4, 8, 16] -> [4]\n" in str(caught.value)
    assert '  constraints: [] -> ["tiles <= 4"]\n' in str(caught.value)
    assert "another --out or --study" in str(caught.value)


def test_a_study_that_began_before_there_was_a_setting_has_its_default(config):
    study = open_study(config)
    add(study, 0.5)
    kept = dict(study.user_attrs["configuration"])
    del kept["digital_layers"], kept["candidate"]["reads"]
    study.set_user_attr("configuration", kept)
    assert [trial.value for trial in open_study(config).trials] == [0.5]
    with pytest.raises(
        ConfigError, match=r'configuration:\n  digital_layers: \[\] -> \["head"\]\n'
    ):
        open_study(replace(config, digital_layers=("head",)))


def test_what_computes_and_how_long_may_change(config, tmp_path):
    open_study(config)
    task = TaskConfig(root=tmp_path)
    open_study(replace(config, budget=99, engine=EngineConfig(workers=2), task=task))


def test_a_supernetwork_that_was_trained_again_is_noticed(config, tmp_path):
    folder = tmp_path / "supernet"
    folder.mkdir()
    weights = folder / "supernet.safetensors"
    weights.write_bytes(b"first")
    study = open_study(config)
    refuse_other_supernets(study, {"brain": folder})
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    refuse_other_supernets(study, {"brain": moved})
    weights.write_bytes(b"second")
    with pytest.raises(ConfigError, match=r"supernets: the weights in .*supernet differ"):
        refuse_other_supernets(study, {"brain": folder})


def test_a_study_of_another_program_is_refused(config, tmp_path):
    import optuna

    storage = f"sqlite:///{tmp_path}/studies.db"
    add(optuna.create_study(storage=storage, study_name="search"), 1.0)
    with pytest.raises(ConfigError, match="study 'search' was not made by"):
        open_study(replace(config, storage=storage))


def test_a_damaged_journal_is_told_with_its_path(config, tmp_path):
    add(open_study(config), 0.5)
    log = tmp_path / "study.log"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], "no JSON", *lines[1:]]) + "\n")
    with pytest.raises(DataError, match=r"study\.log is damaged"):
        open_study(config)


@pytest.mark.parametrize("url", ["nonsense", "nonsense://host/name", "sqlite:////no/where/x.db"])
def test_a_database_that_is_not_there_is_told(config, url):
    with pytest.raises(ConfigError, match=r"storage .* cannot be used"):
        open_study(replace(config, storage=url))


def test_no_password_is_told(config):
    url = "nonsense://me:secret@host/name"
    with pytest.raises(ConfigError) as caught:
        open_study(replace(config, storage=url))
    assert "secret" not in str(caught.value)
    assert "***@host" in str(caught.value)
