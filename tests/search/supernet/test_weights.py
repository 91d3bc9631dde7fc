import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from analogmed.cli.main import run_command
from analogmed.cli.options import to_options
from analogmed.cli.parse import parse
from analogmed.cli.programs.supernet import search_with
from analogmed.config import TaskConfig
from analogmed.foundation.errors import CheckpointError, ConfigError, LeakageError
from analogmed.models import Genotype, Level
from analogmed.network.inference import predict_logits, to_classes
from analogmed.search.settings import SearchConfig
from analogmed.search.space.space import Space
from analogmed.search.supernet.run import train_supernet
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.search.supernet.setup import set_up_supernet
from analogmed.search.supernet.weights import SharedWeights, refuse_leakage
from analogmed.training import OptimizerConfig
from analogmed.training.distributed import Ranks

pytestmark = pytest.mark.slow

main = partial(run_command, "search")

SPACE = Space(depths=(1, 2), blocks=("identity", "C", "E"), widths=(4,), kernels=(3,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A supernetwork of four small patients; its networks are followed over 48 epochs."""
    config = SupernetConfig(
        task=TaskConfig(
            root=tmp_path_factory.mktemp("phantom"),
            size=(16, 16),
            shares=(0.5, 0.25, 0.25),
            options={"phantom_patients": 4, "phantom_size": 32},
        ),
        space=SPACE,
        rule="fairnas",
        epochs=48,
        batch_size=4,
        optimizer=OptimizerConfig(learning_rate=0.03, ema=0.0),
        validate_every=24,
        probes=2,
        trace=4,
        trace_every=24,
        out=tmp_path_factory.mktemp("supernet"),
    )
    train_supernet(config)
    return config.folder


@pytest.fixture(scope="module")
def shared(folder):
    return SharedWeights.load(folder)


@pytest.fixture
def genotype():
    return Genotype((Level("C", 4, 3), Level("E", 4, 3)))


def test_a_score_is_the_mean_dice_of_the_network_alone_on_validation_patients(shared, genotype):
    network, task = shared.supernet.subnet(genotype).eval(), shared.task
    scores = []
    for case in task.validation:
        sample = task.read(case)
        with torch.no_grad():
            images = torch.from_numpy(sample.image)
            logits = predict_logits(network, images, window=task.window, batch_size=4)
        predicted, held = to_classes(logits).numpy() == 1, sample.label == 1
        scores.append(2 * (predicted & held).sum() / (predicted.sum() + held.sum()))
    assert shared.score(genotype) == pytest.approx(np.mean(scores))


def test_a_score_is_computed_once(shared, genotype, monkeypatch):
    first = shared.score(genotype)
    monkeypatch.setattr(shared, "supernet", None)
    assert shared.score(genotype) == first


def test_the_trace_ends_with_the_scores_of_the_saved_weights(folder, shared):
    trace = pd.read_csv(folder / "trace.csv")
    assert trace["epoch"].unique().tolist() == [24, 48]
    networks = [set(rows["genotype"]) for _, rows in trace.groupby("epoch")]
    assert networks[0] == networks[1]
    assert len(networks[0]) == shared.config.trace  # different networks
    last = trace[trace["epoch"] == 48]
    for text, score in zip(last["genotype"], last["score"], strict=True):
        assert shared.score(Genotype.of(text)) == pytest.approx(score)


def test_the_saved_weights_are_trained(shared):
    """Each weight differs from its start, which the seed gives."""
    run = set_up_supernet(shared.config, Ranks())
    untrained = {name: value.clone() for name, value in run.supernet.named_parameters()}
    moved = [
        not torch.equal(value, untrained[name])
        for name, value in shared.supernet.named_parameters()
        if value.ndim > 1
    ]
    assert all(moved)


def test_only_validation_patients_are_read(folder, genotype):
    shared, read = SharedWeights.load(folder), []
    task = shared.task
    shared.tasks[task.name] = replace(task, read=lambda case: read.append(case) or task.read(case))
    shared.score(genotype)
    assert set(read) == set(task.validation)
    assert task.test


def test_a_folder_that_was_moved_is_still_a_supernetwork(folder, shared, genotype, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert SharedWeights.load(moved).score(genotype) == shared.score(genotype)


def test_a_network_of_another_space_and_an_unknown_task_are_refused(shared, genotype):
    with pytest.raises(ConfigError, match="not of the supernetwork's space"):
        shared.score(Genotype((Level("C", 64, 3),)))
    with pytest.raises(ConfigError, match="unknown task 'liver'"):
        shared.score(genotype, "liver")


def test_damaged_weights_are_refused_with_what_to_do(folder, tmp_path):
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    path = damaged / "supernet.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=r"supernet\.safetensors.*--restart true"):
        SharedWeights.load(damaged)


def test_the_program_says_where_the_weights_of_a_finished_run_are(folder, capsys):
    main(["supernet", "--config", str(folder / "supernet.yaml")])
    assert f"{folder}/supernet.safetensors: shared weights" in capsys.readouterr().out


def test_a_supernetwork_that_knows_test_patients_is_refused(folder, shared):
    own = shared.config.task
    refuse_leakage([folder], own.load())
    with pytest.raises(LeakageError, match="keeps for testing"):
        refuse_leakage([folder], replace(own, split_seed=1).load())
    renamed = replace(replace(own, split_seed=1).load(), name="renamed")
    with pytest.raises(LeakageError, match="task renamed keeps for testing"):
        refuse_leakage([folder], renamed)


def test_the_search_by_these_weights_has_their_space_and_data(shared):
    wanted = search_with(shared.config)
    assert wanted.space == SPACE
    assert {*wanted.supernets} == {shared.config.task.own_name}
    own = replace(shared.config.task, options={"name": "knees"})
    assert {*search_with(replace(shared.config, task=own)).supernets} == {"knees"}
    assert parse(SearchConfig, to_options(wanted), prog="analogmed.search") == wanted
