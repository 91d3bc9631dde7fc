import random
import signal
import time
from dataclasses import fields, replace
from pathlib import Path

import programs
import pytest
import torch
from torch import nn

from analogmed.analog import Hardware
from analogmed.config import to_plain
from analogmed.execution.run_folder import LOCK, WRITTEN, locked
from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.training.distributed import Ranks
from analogmed.training.settings import LoadingConfig, LossConfig, TrainConfig
from analogmed.training.state.folder import opened
from analogmed.training.state.nested_tensors import write_nested
from analogmed.training.state.state import (
    MAY_DIFFER,
    TrainingState,
    load_latest,
    refuse_other_configuration,
    remove_states,
    save_state,
)

pytestmark = pytest.mark.slow

TEACHER = "loss.teacher"

SAVE_FOR_EVER = """
import sys
import torch
from analogmed.training.state.state import TrainingState, load_latest, save_state
found = load_latest(sys.argv[1])
epoch = found.epoch if found else 0
while True:
    epoch += 1
    model = {"weight": torch.full((500_000,), float(epoch))}
    save_state(sys.argv[1], TrainingState(epoch, model, config={"epoch": epoch}))
"""

DIE_IN_A_SAVE = """
import os, signal, sys
import torch
from analogmed.training.state import nested_tensors
from analogmed.training.state import state as resume
def write(path, nested):
    nested_tensors.write_nested(path, nested)
    with open(path, "rb+") as file:
        file.truncate(os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)
resume.write_nested = write
resume.save_state(sys.argv[1], resume.TrainingState(3, {"weight": torch.ones(1000)}))
"""

FILL_THE_DISK = """
import resource, signal, sys
import torch
from analogmed.foundation.errors import CheckpointError
from analogmed.training.state.state import TrainingState, save_state
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_state(sys.argv[1], TrainingState(3, {"weight": torch.ones(100_000)}))
except CheckpointError as error:
    print(error)
"""


def a_state(epoch, **changes):
    weight = torch.full((1000,), float(epoch))
    learner = {"steps": 10 * epoch, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}
    return replace(TrainingState(epoch, {"weight": weight}, learner), **changes)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in (WRITTEN, LOCK))


@pytest.fixture
def folder(tmp_path):
    """A run folder with the states after the first and the second epoch."""
    for epoch in (1, 2):
        save_state(tmp_path, a_state(epoch))
    return tmp_path


def test_a_state_comes_back_with_all_that_it_holds(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.8, 0.95))
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    state = TrainingState(
        epoch=7,
        model=dict(model.state_dict()),
        learner={
            "steps": 70,
            "optimizer": optimizer.state_dict(),
            "average": {"decay": 0.1 + 0.2, "tensors": dict(model.state_dict())},
            "clipper": {"scales": [[torch.ones(1)], []], "best": float("-inf")},
        },
        history=[{"epoch": 6, "dice": float("nan"), "seconds": 1.5}],
        config={"batch_size": 4},
    )
    path = save_state(tmp_path / "run", state)
    assert path.name == "state-000007.safetensors"
    found = load_latest(tmp_path / "run")
    for field in fields(TrainingState):
        assert repr(getattr(found, field.name)) == repr(getattr(state, field.name)), field.name


def test_the_last_two_states_are_kept(tmp_path):
    for epoch in (1, 2, 5, 9):
        save_state(tmp_path, a_state(epoch))
    assert names(tmp_path) == ["state-000005.safetensors", "state-000009.safetensors"]
    assert load_latest(tmp_path).epoch == 9


def test_a_run_that_begins_anew_is_not_outdone_by_an_older_one(folder):
    (folder / "network.safetensors").write_text("the best network")
    save_state(folder, a_state(1))
    assert load_latest(folder).epoch == 1
    remove_states(folder)
    assert load_latest(folder) is None
    assert names(folder) == ["network.safetensors"]


def test_an_empty_and_a_missing_folder_hold_no_state(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "none") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:-100] + bytes(100),
        lambda content: bytes(len(content)),
    ],
    ids=["half", "empty", "end lost", "zeros"],
)
def test_a_damaged_newest_state_is_named_and_the_one_before_is_used(folder, damage):
    newest = folder / "state-000002.safetensors"
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(
        UserWarning, match=rf"{newest} \(.*is damaged; resuming from state-000001.*after epoch 1"
    ):
        assert load_latest(folder).model["weight"][0] == 1.0


def test_without_any_whole_state_all_are_named(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"state-000002.*state-000001.*--out.*from the start"):
        load_latest(folder)


def test_a_state_of_another_format_counts_as_damaged(folder, monkeypatch):
    monkeypatch.setattr("analogmed.training.state.state._FORMAT", 2)
    save_state(folder, a_state(3))
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="state-000003.*of another format than 1.*state-000002"):
        assert load_latest(folder).epoch == 2


def test_a_process_killed_in_the_middle_of_a_save_leaves_the_state_before(folder):
    assert programs.run(DIE_IN_A_SAVE, folder).returncode == -signal.SIGKILL
    left = [name for name in names(folder) if name.startswith(".analogmed-")]
    assert len(left) == 1
    found = load_latest(folder)
    assert torch.equal(found.model["weight"], torch.full((1000,), 2.0))
    with locked(folder):  # as the next run does
        pass
    assert names(folder) == ["state-000001.safetensors", "state-000002.safetensors"]


def test_a_process_killed_at_any_moment_leaves_a_whole_state(tmp_path):
    draws = random.Random(0)
    reached = kills = interrupted = 0
    while kills < 4 or not interrupted:
        kills += 1
        assert kills < 20
        process = programs.start(SAVE_FOR_EVER, tmp_path)
        wait_for(tmp_path, reached)
        time.sleep(draws.uniform(0.0, 0.03))
        process.kill()
        interrupted += any(name.startswith(".") for name in names(tmp_path))
        found = load_latest(tmp_path)  # warnings are errors: nothing may be damaged
        assert found.epoch == found.config["epoch"] > reached
        assert (found.model["weight"] == found.epoch).all()
        with locked(tmp_path):
            pass
        assert all(name.startswith("state-") for name in names(tmp_path))
        reached = found.epoch


def wait_for(folder, epoch):
    """Wait until a later state than that of an epoch is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(int(p.stem.removeprefix("state-")) > epoch for p in folder.glob("state-*")):
            return
        time.sleep(0.001)
    raise TimeoutError(folder)


def test_a_full_disk_leaves_the_states_before_and_says_what_to_do(folder):
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    done = programs.run(FILL_THE_DISK, folder)
    assert done.returncode == 0, done.stderr
    assert f"cannot write the training state to {folder}: " in done.stdout
    assert "state-000002.safetensors is whole. Make room there" in done.stdout
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/file.*none was written before.*--out"):
        save_state(tmp_path / "file", a_state(1))


def refuse_other(state, config, **networks):
    defaults = to_plain(TrainConfig())
    refuse_other_configuration(state, to_plain(config), networks, defaults=defaults)


def test_the_same_configuration_is_taken(folder):
    config = TrainConfig(hardware=Hardware(tile_size=(64, 32)), digital_layers=("head",))
    state = a_state(3, config=to_plain(config))
    save_state(folder, state)
    refuse_other(load_latest(folder), config)


@pytest.mark.parametrize("config", [TrainConfig, SupernetConfig])
def test_a_setting_that_there_was_not_yet_counts_as_its_default(folder, config):
    before = to_plain(config(out=folder))
    del before["loading"]["foreground"], before["validate_every"]
    save_state(folder, a_state(3, config=before))
    now = config(out=folder)
    assert opened(now, Ranks(), "settings.yaml", {}).epoch == 3
    with pytest.raises(ConfigError) as caught:
        opened(replace(now, validate_every=7), Ranks(), "settings.yaml", {})
    assert str(caught.value).splitlines()[1:-1] == ["  validate_every: 5 -> 7"]


def test_what_does_not_make_another_run_may_differ():
    config = TrainConfig()
    changed = replace(
        config,
        out=Path("elsewhere"),
        restart=True,
        device="cuda",
        loading=LoadingConfig(cache_bytes=1, workers=2),
    )
    refuse_other(a_state(3, config=to_plain(config)), changed)
    settings = to_plain(config) | {
        f"loading.{name}": value for name, value in to_plain(config.loading).items()
    }
    assert set(MAY_DIFFER) <= settings.keys()


def test_another_configuration_is_refused_and_shown_setting_by_setting():
    config = TrainConfig(epochs=40)
    changed = replace(
        config,
        epochs=50,
        out=Path("elsewhere"),
        hardware=Hardware(out_noise=0.1),
        loading=LoadingConfig(foreground=0.9),
    )
    with pytest.raises(ConfigError) as caught:
        refuse_other(a_state(3, config=to_plain(config)), changed)
    assert str(caught.value).splitlines() == [
        "cannot resume after epoch 3 with another configuration:",
        "  hardware.out_noise: 0.04 -> 0.1",
        "  epochs: 40 -> 50",
        "  loading.foreground: 0.5 -> 0.9",
        "set these back to resume, or give another --out, or --restart true, to start again",
    ]


def test_settings_on_one_side_only_are_shown():
    state = a_state(1, config={"loss": {"dice": 1.0}, "model": {"options": {}}})
    now = {"loss": {"dice": 1.0, "focal": 0.5}, "model": {"options": {"features": 4}}}
    with pytest.raises(ConfigError) as caught:
        refuse_other_configuration(state, now, {}, defaults={})
    assert "  loss.focal: (not there) -> 0.5" in str(caught.value)
    assert "  model.options.features: (not there) -> 4" in str(caught.value)


def refusal(state, config, **networks):
    with pytest.raises(ConfigError) as caught:
        refuse_other(state, config, **networks)
    return str(caught.value).splitlines()[1:-1]


def test_a_start_is_known_by_its_content_wherever_it_lies():
    config = TrainConfig(init=Path("runs/a"))
    state = a_state(1, config=to_plain(config), networks={"init": "12" * 32})
    for init in ("runs/a", "/elsewhere/a/network.safetensors"):
        refuse_other(state, replace(config, init=init), init="12" * 32)
    assert refusal(state, config, init="34" * 32) == [
        "  init: runs/a (SHA-256 121212121212) -> runs/a (SHA-256 343434343434)"
    ]
    assert refusal(state, replace(config, init=None)) == [
        "  init: runs/a (SHA-256 121212121212) -> (none)"
    ]


def test_a_teacher_is_known_by_its_content_wherever_it_lies():
    config = TrainConfig(loss=LossConfig(distillation=1.0, teacher=Path("runs/a")))
    state = a_state(1, config=to_plain(config), networks={TEACHER: "12" * 32})
    elsewhere = replace(config, loss=replace(config.loss, teacher=Path("elsewhere/a")))
    refuse_other(state, elsewhere, **{TEACHER: "12" * 32})
    assert refusal(state, config, **{TEACHER: "34" * 32}) == [
        "  loss.teacher: runs/a (SHA-256 121212121212) -> runs/a (SHA-256 343434343434)"
    ]


def test_digests_of_a_state_that_was_written_before_they_were_in_one_mapping(folder):
    content = {f.name: getattr(a_state(3), f.name) for f in fields(TrainingState)}
    del content["networks"]
    content |= {"format": 1, "start": "12" * 32, "teacher": ""}
    write_nested(folder / "state-000003.safetensors", content)
    assert load_latest(folder).networks == {"init": "12" * 32, TEACHER: ""}


def test_a_start_of_unknown_content_is_known_by_its_place(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(init=Path("a"))
    state = a_state(1, config=to_plain(config))
    for init in ("a/", "./a", tmp_path / "a", "b/../a", "a/network.safetensors"):
        refuse_other(state, replace(config, init=init), init="12" * 32)
    assert refusal(state, replace(config, init="b")) == ["  init: a -> b"]
