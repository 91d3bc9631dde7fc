"""Effects of a training run on the files of its folder, its own and others."""

import os
import stat
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import programs
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from analogmed.config import to_yaml
from analogmed.execution.run_folder import WrittenFiles, locked
from analogmed.foundation.errors import ConfigError
from analogmed.training import load_checkpoint, train
from analogmed.training.log import TrainingLog

LOSE_THE_LOG = """
import os, sys
from analogmed.cli.parse import parse
from analogmed.training import TrainConfig, train
from analogmed.training import log
before = log.TrainingLog.write
def write(self, history):
    if len(history) == int(sys.argv[2]):
        os._exit(9)
    before(self, history)
log.TrainingLog.write = write
train(parse(TrainConfig, ["--config", sys.argv[1]], prog="train"))
"""


@pytest.fixture(scope="module")
def config(tiny_training, tmp_path_factory):
    """A run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    return replace(tiny_training, epochs=2, validate_every=1, out=folder / "out")


@pytest.fixture(scope="module")
def finished(config):
    train(config)
    return config.out


def settings_file(config, path):
    path.write_text(to_yaml(config))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_between_state_and_log_loses_no_row(config, finished, tmp_path, epoch):
    config = replace(config, out=tmp_path / "run")
    file = settings_file(config, tmp_path / "settings.yaml")
    assert programs.run(LOSE_THE_LOG, file, epoch).returncode == 9
    train(config)
    found, whole = (
        pd.read_csv(f / "log.csv").drop(columns="seconds") for f in (config.out, finished)
    )
    pd.testing.assert_frame_equal(found, whole)
    assert (config.out / "curves.png").is_file()
    # files of the same second are read in any order, in which later steps would count as orphaned
    folder = str(config.out / "tensorboard")
    events = EventAccumulator(folder, purge_orphaned_data=False).Reload()
    steps = {event.step for event in events.Scalars("loss")}
    assert steps == set(pd.read_csv(finished / "log.csv")["step"])


def test_a_finished_run_is_left_as_it_is(config, finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    train(config)
    after = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert changed <= {".analogmed-lock", ".analogmed-files"}


@pytest.mark.slow
def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(config, finished):
    code = "import sys; from analogmed.execution.run_folder import locked\n"
    code += "with locked(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(finished)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    settings = (finished / "training.yaml").read_bytes()
    with pytest.raises(ConfigError, match="another run is writing to this folder"):
        train(replace(config, seed=1, restart=True))
    other.communicate("")
    assert (finished / "training.yaml").read_bytes() == settings
    assert list(finished.glob("state-*"))


@pytest.mark.slow
def test_files_of_the_user_stay(config, finished, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".tmpabcdef").write_text("of the user")
    (out / ".network-notes.safetensors").write_text("of the user")
    train(replace(config, out=out))
    train(replace(config, out=out, restart=True))
    assert (out / ".tmpabcdef").read_text() == "of the user"
    assert (out / ".network-notes.safetensors").read_text() == "of the user"


@pytest.mark.parametrize("name", ["log.csv", "state-000007.safetensors", "training.yaml"])
def test_a_folder_with_such_files_of_other_origin_is_refused(config, tmp_path, name):
    (tmp_path / name).write_text("of the user")
    with pytest.raises(ConfigError, match=rf"replace or remove {name}, which no run"):
        train(replace(config, out=tmp_path))
    assert (tmp_path / name).read_text() == "of the user"


def test_what_a_run_wrote_is_in_its_list(finished):
    written = WrittenFiles(finished)
    files = {p.name for p in finished.iterdir() if p.is_file() and not p.name.startswith(".")}
    assert {"network.safetensors", "log.csv", "curves.png", "training.yaml"} < files
    assert all(name in written for name in files)


def test_files_have_the_permissions_that_the_umask_leaves(config, tmp_path):
    before = os.umask(0o027)
    try:
        train(replace(config, epochs=1, out=tmp_path / "run"))
    finally:
        os.umask(before)
    files = [p for p in (tmp_path / "run").iterdir() if p.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}
    assert any(path.name.startswith("state-") for path in files)


def test_the_lock_is_free_after_a_run_that_failed(config, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no log")

    monkeypatch.setattr(TrainingLog, "write", fail)
    with pytest.raises(RuntimeError, match="no log"):
        train(replace(config, out=tmp_path))
    with locked(tmp_path):
        pass
    assert load_checkpoint(tmp_path).info.model == "unet"
