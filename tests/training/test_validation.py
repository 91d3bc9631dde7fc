"""Scores of validations in training, by the metric of the task."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from analogmed.data import Sample
from analogmed.data.settings import TaskConfig
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import ConfigError
from analogmed.metrics.case import case_metrics
from analogmed.network.inference import predict_logits, to_classes
from analogmed.search.space.space import Space
from analogmed.search.supernet.run import train_supernet
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.search.supernet.weights import SharedWeights, TaskWeights
from analogmed.training import load_checkpoint, train
from analogmed.training.validation import _TOLERANCE, MeanScore


@pytest.fixture
def by_distance(monkeypatch):
    """Tasks have the 95th percentile of surface distances as their metric: lower is better."""
    load = TaskConfig.load
    monkeypatch.setattr(TaskConfig, "load", lambda self: replace(load(self), primary_metric="hd95"))


def mean_of(task, cases):
    return MeanScore(task, cases, limit_bytes=2**30, batch_size=4, device=torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.usefixtures("by_distance")
def test_a_network_is_validated_and_kept_by_the_metric_of_its_task(tiny_training, tmp_path):
    config = replace(tiny_training, epochs=4, validate_every=1, keep="best", out=tmp_path / "run")
    trained = load_checkpoint(train(config))
    log = pd.read_csv(config.folder / "log.csv")
    assert log["hd95"].min() < log["hd95"].max()
    assert trained.info.score == pytest.approx(log["hd95"].min())
    task = config.task.load()
    expected = []
    for sample in map(task.read, task.validation):
        logits = predict_logits(
            trained.network.eval(), torch.from_numpy(sample.image), window=task.window, batch_size=4
        )
        rows = case_metrics(
            to_classes(logits).numpy(),
            sample.label,
            n_classes=1,
            spacing=sample.spacing,
            tolerance=2.0,
            unit=task.spacing_unit,
            metrics=["hd95"],
        )
        expected += [row.value for row in rows]
    assert trained.info.score == pytest.approx(np.nanmean(expected), rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("by_distance")
def test_a_supernetwork_is_validated_by_the_metric_of_its_task(tiny_task, tmp_path):
    config = SupernetConfig(
        task=tiny_task,
        space=Space(depths=(1,), widths=(2,)),
        epochs=1,
        probes=1,
        out=tmp_path / "run",
    )
    train_supernet(config)
    score = pd.read_csv(config.folder / "log.csv")["hd95"].item()
    assert score > 1  # a distance; Dice is at most 1
    shared = SharedWeights.load(config.folder)
    assert shared.score(shared.space.random(np.random.default_rng(0))) > 1
    with pytest.raises(ConfigError, match="scores networks by hd95, whose lower values are better"):
        TaskWeights(shared, "phantom_brain")  # strategies search for high scores


def test_tasks_of_a_supernetwork_have_one_metric(tiny_task, tmp_path, monkeypatch):
    load = TaskConfig.load

    def loaded(self):
        name = {"phantom_brain": "dice", "phantom_nuclei": "hd95"}[self.name]
        return replace(load(self), primary_metric=name)

    monkeypatch.setattr(TaskConfig, "load", loaded)
    second = replace(tiny_task, name="phantom_nuclei", root=tmp_path / "nuclei")
    config = SupernetConfig(task=tiny_task, more_tasks=(second,), out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"expected .* one primary metric.*dice, hd95"):
        train_supernet(config)


@pytest.mark.parametrize(("name", "expected"), [("dice", 0.0), ("hd95", 40.0)])
def test_without_any_structure_the_score_is_that_of_a_missed_one(tiny_task, name, expected):
    """A distance is then the diagonal of an image, 24 x 32 pixels of 1 mm."""
    empty = np.zeros((2, 24, 32), dtype=np.uint8)

    def read(case):
        image = np.zeros((2, 3, 24, 32), dtype=np.float32)
        return Sample(image, empty, (1.0, 1.0), case)

    task = replace(tiny_task.load(), primary_metric=name, read=read)
    score = mean_of(task, task.validation)([lambda images: images[:, :1] - 1])
    assert score == expected


def test_surfaces_deviate_as_much_as_in_an_evaluation():
    assert Experiment().tolerance == _TOLERANCE
