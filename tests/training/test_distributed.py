"""Two ranks on CPU against one process; test_programs.py has digital training, too."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analogmed.analog import Hardware
from analogmed.config import to_yaml
from analogmed.training import NoiseConfig, OptimizerConfig, TrainConfig, train
from analogmed.training.config import network_file

SCRIPT = Path(__file__).with_name("bfloat16_rank.py")
TWO_RUNS = Path(__file__).with_name("two_runs_rank.py")


def in_one_process():
    """With torch's own batch normalisation, which keeps its statistics in float32."""
    spec = importlib.util.spec_from_file_location("bfloat16_rank", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.step()


def test_two_ranks_in_bfloat16_share_the_norms_of_one_process(tmp_path):
    """Statistics to float32, gradients to the 8 bits of bfloat16."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), str(rank)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    expected = in_one_process()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            limit = 1e-5 if "running" in name else 2**-7
            error = (found[name] - values).norm() / values.norm()
            assert error <= limit, (name, error)


PLAIN = {"out_noise": 0.0, "dac_steps": 0, "adc_steps": 0}


@pytest.mark.parametrize(
    "settings",
    [
        {"hardware": Hardware(**PLAIN)},
        {
            "backend": "aihwkit",
            "hardware": Hardware(modifier="none", **PLAIN),
            "noise": NoiseConfig(weights="modifier", ranges="learned"),
        },
    ],
    ids=["chips", "aihwkit"],
)
def test_two_ranks_train_for_the_chip_what_one_process_trains(
    settings, tiny_task, tiny_digital, tmp_path
):
    """An epoch of plain gradient descent in small steps, in which roundings do not grow.

    Without converters, and without noise of outputs, which each rank draws for itself. The ranks do
    it twice, in a group of their own each time.
    """
    config = TrainConfig(
        task=tiny_task,
        training="hwa",
        init=tiny_digital,
        epochs=1,
        batch_size=4,
        validation_chips=1,
        optimizer=OptimizerConfig(name="sgd", learning_rate=1e-3),
        out=tmp_path / "one",
        **settings,
    )
    one, start = load_file(train(config)), load_file(tiny_digital)
    runs = [tmp_path / "two", tmp_path / "again"]
    for out in runs:
        out.with_suffix(".yaml").write_text(to_yaml(replace(config, out=out)))
    ranks = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, "-m", *ranks, str(TWO_RUNS), *(f"{out}.yaml" for out in runs)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,  # ranks that wait for each other do so for hours
    )
    assert done.returncode == 0, done.stderr
    two, again = map(load_file, map(network_file, runs))
    assert one.keys() == two.keys() == again.keys()
    assert all(torch.equal(again[name], values) for name, values in two.items())
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=1e-4, atol=1e-5)
    norm = next(name for name in start if name.endswith("norm1.weight"))
    assert not torch.equal(one[norm], start[norm])
