"""Scores of classified images in uncertainty and mitigation: decided by the thresholds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from analogmed.config import TaskConfig
from analogmed.data import Sample
from analogmed.evaluation.studies.mitigation.values import values_of
from analogmed.evaluation.studies.uncertainty.images.scores import ImageScores
from analogmed.evaluation.studies.uncertainty.maps import UncertaintyStream
from analogmed.evaluation.studies.uncertainty.scores import scaled_maps
from analogmed.evaluation.studies.uncertainty.settings import UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.study import measure_uncertainty
from analogmed.evaluation.studies.uncertainty.temperature import scale_thresholds
from analogmed.foundation.errors import ConfigError
from analogmed.kinds.classification import MULTILABEL
from analogmed.models import build_model
from analogmed.training import CheckpointInfo, save_checkpoint

ADDRESS = ("task", "net", "digital", "deterministic", float("nan"))
THRESHOLDS = (0.2, 0.7)
N = 40


@pytest.fixture
def drawn(tiny_task):
    """A task of two labels, and samples of one image with their probabilities."""
    task = replace(
        tiny_task.load(), kind=MULTILABEL, primary_metric="f1", classes=("first", "second")
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(N, 2)).astype(np.uint8)
    prob = ((labels + 2 * rng.random((N, 2))) / 3).astype(np.float32)
    cases = [replace(task.test[0], case_id=f"case{number}") for number in range(N)]
    image = np.zeros((1, 3, 4, 4), np.float32)
    samples = [
        Sample(image, label[None], (1.0, 1.0), case)
        for label, case in zip(labels, cases, strict=True)
    ]
    expected = f1_score(labels, prob > THRESHOLDS, average="macro")
    assert expected != pytest.approx(f1_score(labels, prob > 0.5, average="macro"))
    return task, samples, prob[:, None, None], expected


@pytest.mark.parametrize("temperature", [None, 3.0])
def test_the_thresholds_of_the_network_decide_in_an_uncertainty_run(drawn, temperature):
    task, samples, prob, expected = drawn
    scores, thresholds = ImageScores(15, 3), THRESHOLDS
    if temperature is not None:
        thresholds = scale_thresholds(THRESHOLDS, temperature)
    for sample, of_case in zip(samples, prob, strict=True):
        stream = UncertaintyStream()
        stream.add(torch.from_numpy(of_case))
        maps = stream.maps()
        maps = maps if temperature is None else scaled_maps(maps, temperature)
        scores.add(ADDRESS, sample, maps, task, thresholds)
    scores.finish(task)
    table = scores.table()
    rows = table[(table["metric"] == "f1") & (table["region"] == "image")]
    assert rows["value"].mean() == pytest.approx(expected)


def test_the_thresholds_of_the_network_decide_in_a_mitigation_run(drawn):
    task, samples, prob, expected = drawn
    values = values_of(task, 3, THRESHOLDS)
    for sample, of_case in zip(samples, prob, strict=True):
        values.add(sample, of_case)
    found = [row["value"] for row in values.rows() if row["metric"] == "f1"]
    assert np.mean(found) == pytest.approx(expected)


def test_classes_apart_are_in_no_mean_of_a_mitigation_run(drawn):
    task, samples, prob, _ = drawn
    values = values_of(replace(task, apart=("second",)), 3, THRESHOLDS)
    for sample, of_case in zip(samples, prob, strict=True):
        values.add(sample, of_case)
    found = [row["value"] for row in values.rows() if row["metric"] == "f1"]
    first = np.concatenate([sample.label for sample in samples])[:, 0]
    assert np.mean(found) == pytest.approx(f1_score(first, prob[:, 0, 0, 0] > THRESHOLDS[0]))


@pytest.mark.parametrize("name", ["band", "image"])
def test_a_class_with_the_name_of_a_region_is_refused(tmp_path, name):
    rng = np.random.default_rng(0)
    parts = {
        f"{part}_images": rng.integers(256, size=(4, 16, 16), dtype=np.uint8)
        for part in ("train", "val", "test")
    }
    labels = {
        f"{part}_labels": np.eye(2, dtype=np.uint8).repeat(2, 0)
        for part in ("train", "val", "test")
    }
    np.savez_compressed(tmp_path / "data.npz", **parts, **labels)
    config = TaskConfig(
        name="medmnist", root=tmp_path / "data.npz", options={"classes": ["dim", name]}
    )
    task = config.load()
    options = {"window": list(task.window), "features": [2, 2, 2], "hidden": 2}
    network = build_model("light_classifier", in_channels=1, out_channels=2, **options)
    info = CheckpointInfo.of_task(task, "light_classifier", options=options, patients=[])
    path = save_checkpoint(tmp_path / "net.safetensors", network, info)
    with pytest.raises(ConfigError, match=f"image and band are regions .* got {name}"):
        measure_uncertainty(
            UncertaintyConfig(task=config, checkpoints=(path,), out=tmp_path / "run")
        )
