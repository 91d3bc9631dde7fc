import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
import torch
import yaml

from analogmed.__main__ import main
from analogmed.cli.parse import parse
from analogmed.config import Experiment, to_plain
from analogmed.models import build_model
from analogmed.training import load_checkpoint

pytestmark = pytest.mark.slow

TABLES = ("results.parquet", "results.csv", "summary.csv")
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def program(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT, **environment},
    )


def of_task(task):
    options = [f"--task.options.{name}={value}" for name, value in task.options.items()]
    return [f"--task.root={task.root}", *options]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["analogmed", "evl"], 2, "unknown command 'evl'; did you mean 'eval'?"),
        (["analogmed", "eval", "--bach_size", "3"], 2, "did you mean '--batch_size'?"),
        (["analogmed.eval", "--checkpoints", "none.safetensors"], 1, "there is no such file"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_status(arguments, status, message, tmp_path):
    done = program(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["eval", "--task", "phantom_brian"], 2, "did you mean 'phantom_brain'?"),
        (["eval", "--task", "lgg"], 2, "task 'lgg' needs root"),
        (["eval", "--sweep.times_s=nan"], 2, "sweep.times_s"),
        (["train", "--loss.distillation", "1"], 2, "only hardware-aware training"),
        (["train", "--model", "unett"], 2, "did you mean 'unet'?"),
        (["data", "verify", "nothing"], 1, "nothing"),
    ],
)
def test_errors_of_all_commands_are_sentences(
    arguments, status, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["analogmed", *arguments])
    assert main() == status
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""


def test_a_data_set_without_a_network_says_how_to_get_one(tiny_task, tmp_path, monkeypatch, capsys):
    tiny_task.load()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["analogmed", "eval", "--task", "lgg", f"--task.root={tiny_task.root}"]
    )
    assert main() == 2
    assert "no network is shipped for task 'lgg'; train one with" in capsys.readouterr().err


def test_eval_gives_the_same_bytes_in_two_processes(tiny_task, tiny_digital, tmp_path):
    arguments = ["--checkpoints", tiny_digital, "--sweep.chips=2", "--sweep.times_s", 0, 86400]
    first = programs.run("analogmed.eval", *of_task(tiny_task), *arguments, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "Brain phantom on PCM chips: Dice" in first.stdout
    assert first.stdout.splitlines()[-2].endswith("tables and figures: runs/eval/")
    runs = tmp_path / "runs"
    second = program(
        *("analogmed", "eval", "--config", runs / "eval" / "experiment.yaml"),
        *("--out", runs / "again"),
        PYTHONHASHSEED="3",
        PYTHONPROFILEIMPORTTIME="1",
    )
    assert second.returncode == 0
    assert " torch\n" in second.stderr
    assert " monai\n" not in second.stderr  # takes as long to import as torch
    for name in TABLES:
        assert (runs / "again" / name).read_bytes() == (runs / "eval" / name).read_bytes()


def test_train_fills_a_run_folder_and_says_its_dice(tiny_task, tmp_path):
    done = programs.run(
        *("analogmed", "train", *of_task(tiny_task), "--model.options.features=2"),
        *("--epochs=1", "--out=run"),
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert re.fullmatch(
        r"unet digital on phantom_brain: epoch 1/1, loss \d\.\d{3}, "
        r"validation Dice 0\.\d{3}, best 0\.\d{3}, 00:00 left\n",
        done.stderr,
    )
    assert done.stdout.startswith("run/network.safetensors: unet, validation Dice 0.")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert {path.name for path in (tmp_path / "run").glob("[!.]*")} == {
        "curves.png",
        "environment.json",
        "log.csv",
        "network.safetensors",
        "state-000001.safetensors",
        "tensorboard",
        "training.yaml",
    }


def test_the_last_line_of_train_evaluates_its_run_with_its_data_and_split(tiny_task, tmp_path):
    settings = ["--task.shares", "0.5", "0.2", "0.3", "--task.split_seed=1", "--hardware=hermes"]
    done = programs.run(
        *("analogmed.train", *of_task(tiny_task), *settings, "--model.options.features=2"),
        *("--training=hwa", "--epochs=1", "--validation_chips=1", "--out=a run"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1]
    assert command.startswith("analogmed eval 'a run/digital' 'a run' --task.root ")
    experiment = parse(Experiment, shlex.split(command)[2:], prog="eval")
    trained = yaml.safe_load((tmp_path / "a run" / "training.yaml").read_text(encoding="utf-8"))
    assert to_plain(experiment.task) == trained["task"]
    assert to_plain(experiment.hardware) == trained["hardware"]
    assert experiment.checkpoints == (Path("a run/digital"), Path("a run"))
    for path in experiment.checkpoints:
        info = load_checkpoint(tmp_path / path).info
        info.refuse_leakage(experiment.task.load(), path)


def training(task, out, epochs):
    arguments = [*of_task(task), f"--out={out}", f"--epochs={epochs}", "--validate_every=1"]
    return ["analogmed.train", *arguments, "--model.options.features=2"]


def test_an_interrupted_training_stops_without_a_traceback_and_leaves_a_whole_network(
    tiny_task, tmp_path
):
    started = programs.start(*training(tiny_task, tmp_path, 100_000))
    try:
        wait_for(tmp_path / "network.safetensors")
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130
    assert errors.endswith(
        f" left\nthe same command resumes after the last epoch in {tmp_path}\nstopped\n"
    )
    assert load_checkpoint(tmp_path).info.training == "digital"


def test_a_training_that_was_killed_goes_on_to_the_same_bytes(tiny_task, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert programs.run(*training(tiny_task, whole, 4)).returncode == 0
    started = programs.start(*training(tiny_task, broken, 4))
    wait_for(broken / "state-000001.safetensors")
    started.kill()
    started.communicate()
    assert started.returncode == -signal.SIGKILL
    assert programs.run(*training(tiny_task, broken, 4)).returncode == 0
    name = "network.safetensors"
    assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert [line.split(",")[0] for line in (broken / "log.csv").read_text().splitlines()] == [
        *("epoch", "1", "2", "3", "4")
    ]


def test_two_ranks_of_torchrun_train_what_one_process_trains(tiny_task, tmp_path):
    """Plain gradient descent in small steps, in which roundings do not grow."""
    settings = ["--batch_size=4", "--optimizer=sgd", "--optimizer.learning_rate=1e-3"]
    one = [*training(tiny_task, tmp_path / "one", 1), *settings]
    two = [*training(tiny_task, tmp_path / "two", 1), *settings]
    ranks = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    for done in (programs.run(*one), program(*ranks, *two)):
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("validation Dice") == 1
    first, second = (
        load_checkpoint(tmp_path / name).network.state_dict() for name in ("one", "two")
    )
    start = build_model("unet", in_channels=3, out_channels=1, features=2).state_dict()
    for name, values in first.items():
        torch.testing.assert_close(second[name], values, rtol=1e-4, atol=1e-6)
    moved = [name for name in first if not torch.equal(first[name], start[name])]
    assert any(name.endswith("running_var") for name in moved)


def wait_for(path, limit_s=120.0):
    end = time.monotonic() + limit_s
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear within {limit_s:g} s")
        time.sleep(0.1)
