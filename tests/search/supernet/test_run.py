import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import programs
import pytest
import torch

from analogmed.cli.parse import parse
from analogmed.config import TaskConfig, to_yaml
from analogmed.foundation.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from analogmed.models import Genotype
from analogmed.search.space.space import Space
from analogmed.search.supernet.path_sampling import ReducedSpace, paths_of_step
from analogmed.search.supernet.run import train_supernet
from analogmed.search.supernet.settings import (
    LatencyConfig,
    MiasLossConfig,
    PruningConfig,
    SupernetConfig,
)
from analogmed.search.supernet.setup import fixed_networks, set_up_supernet
from analogmed.search.supernet.weights import SharedWeights
from analogmed.training import LoadingConfig, OptimizerConfig
from analogmed.training.distributed import Ranks
from analogmed.training.losses import distillation
from analogmed.training.state.nested_tensors import read_nested

SPACE = Space(depths=(1, 2), blocks=("identity", "A", "C", "E"), widths=(4,), kernels=(3,))
PLAIN = OptimizerConfig(
    name="sgd",
    learning_rate=0.1,
    weight_decay=0,
    momentum=0,
    schedule="constant",
    warm_up=0,
    gradient_norm=1e9,
    ema=0,
)
TRAIN = """
import sys
from analogmed.cli.parse import parse
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.search.supernet.run import train_supernet
train_supernet(parse(SupernetConfig, ["--config", sys.argv[1]], prog="supernet"))
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Four patients of eight slices, 16 x 16: two to train, one to validate, one to test."""
    return TaskConfig(
        root=tmp_path_factory.mktemp("phantom"),
        size=(16, 16),
        shares=(0.5, 0.25, 0.25),
        options={"phantom_patients": 4, "phantom_size": 32},
    )


@pytest.fixture
def config(task, tmp_path):
    """One step an epoch, of plain gradient descent."""
    return SupernetConfig(
        task=task,
        space=SPACE,
        epochs=1,
        batch_size=16,
        optimizer=PLAIN,
        probes=1,
        loading=LoadingConfig(augment=False),
        out=tmp_path / "run",
    )


def weights_of(path):
    return read_nested(path)["weights"]


def start_of(config):
    """Untrained weights, the first batch, and the loss."""
    with torch.random.fork_rng(devices=()):
        run = set_up_supernet(config, Ranks())
    material, images, labels = next(run.epoch(0))
    return run.supernet, images, labels, material.loss


RULES = {"spos": {"paths": 3}, "fairnas": {}, "sandwich": {}}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_step_goes_along_the_gradients_of_all_its_networks(config, rule):
    """SPOS takes their mean, FairNAS their sum; in a sandwich three learn from the largest."""
    config = replace(
        config, rule=rule, **RULES[rule], loss=MiasLossConfig(cross_entropy=0.7, latency=0.3)
    )
    supernet, images, labels, loss_of = start_of(config)
    networks = paths_of_step(rule, ReducedSpace.of(SPACE), n=config.paths, seed=config.seed, step=0)
    logits = [supernet(images, genotype) for genotype in networks]
    losses = [loss_of(images, each, labels) for each in logits]
    if rule == "sandwich":
        losses[1:] = [distillation(each, logits[0].detach()) for each in logits[1:]]
    total = 0.7 * sum(losses) / (len(losses) if rule == "spos" else 1)
    total.backward()
    trained = weights_of(train_supernet(config))
    for name, parameter in supernet.named_parameters():
        gradient = 0 if parameter.grad is None else parameter.grad
        expected = parameter.detach() - 0.1 * gradient
        torch.testing.assert_close(trained[name], expected, rtol=1e-5, atol=1e-6, msg=name)
    share = set_up_supernet(config, Ranks()).latencies.share(networks)
    logged = pd.read_csv(config.folder / "log.csv")["loss"].item()
    assert logged == pytest.approx(total.item() + 0.3 * share, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["fairnas", "gumbel"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(config, rule, tmp_path):
    config = replace(
        config,
        rule=rule,
        epochs=4,
        batch_size=4,
        optimizer=OptimizerConfig(ema=0.9),
        loss=MiasLossConfig(0.7, 0.3),
        pruning=PruningConfig(every=2, warm_up=0),
        trace=2,
        trace_every=1,
    )
    whole = train_supernet(config)
    broken = tmp_path / "broken"
    shutil.copytree(config.folder, broken)
    for name in ("state-000004.safetensors", "supernet.safetensors", "trace.csv", "pruning.csv"):
        (broken / name).unlink()
    again = train_supernet(replace(config, out=broken))
    assert again.read_bytes() == whole.read_bytes()
    again.unlink()  # as if it had been stopped after the last epoch
    assert train_supernet(replace(config, out=broken)).read_bytes() == whole.read_bytes()
    for name in ("trace.csv", "pruning.csv"):
        assert (broken / name).read_bytes() == (config.folder / name).read_bytes(), name
    logs = [pd.read_csv(folder / "log.csv") for folder in (broken, config.folder)]
    pd.testing.assert_frame_equal(*(log.drop(columns="seconds") for log in logs))
    assert train_supernet(config) == whole  # nothing is left to do


@pytest.mark.slow
def test_two_ranks_train_what_one_process_trains(config, tmp_path, monkeypatch):
    """One rank is this process, the other one of its own, as torchrun would start them."""
    config = replace(config, rule="fairnas", batch_size=8)
    one = weights_of(train_supernet(config))
    start = start_of(config)[0].state_dict()
    config = replace(config, out=tmp_path / "two")
    settings = tmp_path / "settings.yaml"
    settings.write_text(to_yaml(config))
    first, second = programs.ranks()
    other = programs.start(TRAIN, settings, **second)
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    two = weights_of(train_supernet(config))
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=1e-4, atol=1e-5, msg=name)
    assert any(not torch.equal(one[name], start[name]) for name in one)


@pytest.mark.slow
def test_pruned_operations_are_written_down_and_drawn_no_more(config):
    config = replace(
        config,
        epochs=3,
        batch_size=4,
        paths=8,
        pruning=PruningConfig(every=1, warm_up=0),
        trace=2,
        trace_every=2,
    )
    train_supernet(config)
    dropped = pd.read_csv(config.folder / "pruning.csv")
    shared = SharedWeights.load(config.folder)
    for level, whole in enumerate(shared.space.genes[f"block_{n}"] for n in (0, 1)):
        gone = set(dropped[dropped["level"] == level]["block"])
        assert shared.choices.blocks[level] == tuple(name for name in whole if name not in gone)
    assert dropped["epoch"].is_monotonic_increasing
    assert len(shared.choices.blocks[0]) == 1  # three operations, one dropped after each epoch
    trace = pd.read_csv(config.folder / "trace.csv")
    assert trace["epoch"].tolist() == [2, 2, 3, 3]
    assert all(Genotype.of(text) in SPACE for text in trace["genotype"])
    assert trace["genotype"].nunique() == len(trace) / 2


def test_tasks_train_the_same_weights_and_a_head_each(config, tmp_path):
    second = replace(config.task, name="phantom_nuclei", root=tmp_path / "nuclei")
    config = replace(config, more_tasks=(second,), epochs=1, batch_size=4)
    start = start_of(config)[0].state_dict()
    trained = weights_of(train_supernet(config))
    moved = {name for name in start if not torch.equal(start[name], trained[name])}
    assert {name.split(".")[1] for name in moved if name.startswith("heads.")} == {"0", "1"}
    shared = SharedWeights.load(config.folder)
    genotype = shared.space.random(np.random.default_rng(0))
    assert list(shared.tasks) == ["phantom_brain", "phantom_nuclei"]
    assert 0 <= shared.score(genotype, "phantom_nuclei") <= 1
    with pytest.raises(ConfigError, match="a task is listed twice"):
        train_supernet(replace(config, more_tasks=(config.task,), out=tmp_path / "twice"))


@pytest.mark.slow
def test_a_run_on_other_patients_is_not_continued(config, monkeypatch):
    train_supernet(config)
    config.path.unlink()
    loaded = config.task.load()
    moved = replace(loaded, train=loaded.train + loaded.test, test=())
    monkeypatch.setattr(TaskConfig, "load", lambda _: moved)
    with pytest.raises(DataError, match=r"run began with \(new: TCGA_PH_"):
        train_supernet(config)


@pytest.mark.slow
def test_a_run_of_other_settings_is_not_continued(config):
    train_supernet(config)
    with pytest.raises(ConfigError, match=r"rule: \"spos\" -> \"fairnas\""):
        train_supernet(replace(config, rule="fairnas"))
    other = replace(config, rule="fairnas", restart=True)
    assert train_supernet(other) == config.path


def test_a_kill_between_the_last_state_and_the_log_loses_no_row(config):
    config = replace(config, epochs=2)
    path = train_supernet(config)
    log = config.folder / "log.csv"
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    path.unlink()  # written after the log
    listed = config.folder / ".analogmed-files"
    listed.write_text(listed.read_text().replace("log.csv\n", ""))  # as before it was listed
    train_supernet(config)
    assert log.read_bytes() == whole


def test_a_folder_with_a_log_of_other_origin_is_refused(config):
    config.folder.mkdir()
    (config.folder / "log.csv").write_text("of the user")
    with pytest.raises(ConfigError, match=r"replace or remove log\.csv, which no run"):
        train_supernet(config)
    assert (config.folder / "log.csv").read_text() == "of the user"


def test_a_loss_that_is_no_number_stops_the_run(config):
    wild = replace(config.optimizer, learning_rate=1e30)
    with pytest.raises(NonFiniteError, match=r"epoch 2, batch 1; try a smaller optimizer"):
        train_supernet(replace(config, epochs=3, optimizer=wild))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        (
            {"space": Space(depths=(5,), widths=(2,))},
            ConfigError,
            "at the deepest level, got .16, 16.",
        ),
        (
            {"space": Space(spatial_dims=3)},
            ConfigError,
            "space.spatial_dims: expected 2 for task phantom_brain, got 3",
        ),
        ({"latency": LatencyConfig("hermess")}, ConfigError, "did you mean 'hermes"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused(config, changes, error, told):
    with pytest.raises(error, match=told):
        train_supernet(replace(config, pruning=PruningConfig(every=1), **changes))


def test_a_task_without_validation_patients_is_refused(config):
    task = replace(config.task, shares=(0.5, 0.0, 0.5))
    with pytest.raises(DataError, match="no validation case"):
        train_supernet(replace(config, task=task))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rule": "fairnas", "paths": 2}, "paths: fairnas has a number of networks"),
        ({"optimizer": OptimizerConfig(accumulate=2)}, "leave it at 1"),
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"trace": -1}, "trace must be 0 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        SupernetConfig(**changes)


def test_the_settings_of_the_poster_are_those_of_its_files():
    found = {}
    for name in ("brain", "hippocampus"):
        words = ["--config", f"configs/supernet-mias-{name}.yaml"]
        found[name] = parse(SupernetConfig, words, prog="supernet")
    rates = {name: config.optimizer.learning_rate for name, config in found.items()}
    assert rates == {"brain": 0.01, "hippocampus": 0.03}
    assert found["brain"].loss == MiasLossConfig(cross_entropy=0.7, latency=0.3)
    assert found["hippocampus"].loss == MiasLossConfig(cross_entropy=0.6, latency=0.4)
    for config in found.values():
        assert (config.optimizer.name, config.optimizer.momentum) == ("sgd", 0.9)
        assert (config.paths, config.batch_size, config.epochs) == (10, 32, 300)


def test_a_run_that_is_not_trained_to_its_end_cannot_be_loaded(config, tmp_path):
    with pytest.raises(CheckpointError, match=re.escape("supernet.safetensors is missing")):
        SharedWeights.load(tmp_path)
    train_supernet(config)
    config.path.unlink()
    with pytest.raises(CheckpointError, match="give the command that began it again"):
        SharedWeights.load(config.folder)


def test_traces_follow_different_networks():
    """Draws with replacement would repeat some."""
    config = SupernetConfig(space=Space(depths=(1, 2), widths=(4, 8), kernels=(3, 5)))
    networks = fixed_networks(config, 60)
    assert len(set(networks)) == 60
    assert networks == fixed_networks(config, 60)
    assert len(fixed_networks(SupernetConfig(space=SPACE), 50)) == len(list(SPACE.enumerate()))
