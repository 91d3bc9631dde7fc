"""Two ranks on CPUs against one process; test_programs.py also tests digital training."""

import copy
import importlib.util
from dataclasses import replace
from pathlib import Path

import programs
import pytest
import torch
from torch import nn

from analogmed.analog import Hardware
from analogmed.config import to_yaml
from analogmed.training import NoiseConfig, OptimizerConfig, TrainConfig, train
from analogmed.training.distributed import Ranks, _with_shared_norms
from analogmed.training.state.state import load_latest

pytestmark = pytest.mark.slow

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
    processes = [programs.start(SCRIPT, tmp_path, rank) for rank in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    expected = in_one_process()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            limit = 1e-5 if "running" in name else 2**-7
            error = (found[name] - values).norm() / values.norm()
            assert error <= limit, (name, error)


PLAIN = {"out_noise": 0.0, "dac_steps": 0, "adc_steps": 0, "input_range": False}


@pytest.mark.parametrize(
    "settings",
    [
        {"hardware": Hardware(**PLAIN)},
        {
            "backend": "aihwkit",
            "hardware": Hardware(modifier="none", **PLAIN),
            "noise": NoiseConfig(weights="modifier"),
        },
    ],
    ids=["chips", "aihwkit"],
)
def test_two_ranks_train_for_the_chip_what_one_process_trains(
    settings, tiny_task, tiny_digital, tmp_path
):
    """The gradients of a step of all batches of an epoch, and the statistics of the norms.

    Without converters and clipping, whose gradients are no sums over images, and without noise of
    outputs, which each rank draws for itself. The ranks do it twice, in a group of their own each
    time. Gradients of the same weights differ by roundings of sums and the ReLUs that these flip,
    up to some 1e-4 of their norm; where a later step ends up depends on the processor.
    """
    config = TrainConfig(
        task=tiny_task,
        training="hwa",
        init=tiny_digital,
        epochs=1,
        batch_size=4,
        validation_chips=1,
        optimizer=OptimizerConfig(name="sgd", learning_rate=1e-3, accumulate=100),
        out=tmp_path / "one",
        **settings,
    )
    one = after_a_step(train(config).parent)
    runs = [tmp_path / "two", tmp_path / "again"]
    for out in runs:
        out.with_suffix(".yaml").write_text(to_yaml(replace(config, out=out)))
    files = [out.with_suffix(".yaml") for out in runs]
    started = [programs.start(TWO_RUNS, *files, **rank) for rank in programs.ranks()]
    for process in started:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    two, again = map(after_a_step, runs)
    for part, values in one.items():
        assert values.norm() > 0
        assert torch.equal(again[part], two[part]), part
        assert (two[part] - values).norm() <= 5e-3 * values.norm(), part


def after_a_step(folder):
    """Gradients, which are the momentum after the first step, and running means and variances."""
    state = load_latest(folder)
    assert state.learner["steps"] == 1
    momenta = state.learner["optimizer"]["state"]
    names = ("running_mean", "running_var")
    return {
        "gradients": flat(momenta[index]["momentum_buffer"] for index in sorted(momenta)),
        **{n: flat(t for k, t in state.model.items() if k.endswith(n)) for n in names},
    }


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_a_single_process_computes_on_the_device_that_it_is_given(monkeypatch):
    """Without torchrun there is no LOCAL_RANK."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert Ranks(0, 1).device("cuda") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert Ranks(3, 4).device("cuda") == torch.device("cuda", 3)


def test_norms_without_running_statistics_are_validated_on_their_batch():
    """The first rank validates alone: nothing is summed over ranks."""
    torch.manual_seed(0)
    own = nn.BatchNorm2d(3, track_running_stats=False).eval()
    shared = _with_shared_norms(copy.deepcopy(own))
    images = 2.0 + torch.rand(4, 3, 5, 5)
    assert torch.equal(shared(images), own(images))
