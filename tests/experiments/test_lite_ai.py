"""The table of big and light networks has a row for each step, and repacking changes no output."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "lite_ai")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A MedMNIST file whose positive images have a bright square."""
    generator = np.random.default_rng(0)
    content = {}
    for part, n in {"train": 24, "val": 8, "test": 16}.items():
        images = generator.integers(150, size=(n, 28, 28), dtype=np.uint8)
        labels = np.arange(n, dtype=np.uint8)[:, None] % 2
        images[labels[:, 0] == 1, 4:12, 4:12] += 80
        content |= {f"{part}_images": images, f"{part}_labels": labels}
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    np.savez_compressed(path, **content)
    return path


@pytest.mark.slow
def test_repacked_networks_compute_the_same(experiment):
    torch.manual_seed(0)
    big = experiment.ThreeChannels(1, 1, features=4, growth=2, blocks=[1, 1]).eval()
    images = torch.randn(2, 1, 16, 16)
    changes = [row.change for row in experiment.ROWS if row.training == "big"]
    assert len(changes) == 4
    for change in changes:
        torch.testing.assert_close(change(big)(images), big(images), rtol=1e-4, atol=1e-5)
    residual, images = experiment.residual_network(1, 1).eval(), torch.randn(2, 1, 32, 32)
    changes = [row.change for row in experiment.ROWS if row.training == "residual"]
    convolutions = [
        sum(isinstance(layer, torch.nn.Conv2d) for layer in change(residual).modules())
        for change in changes
    ]
    assert convolutions == [9, 6, 9, 6]
    for change in changes:
        torch.testing.assert_close(change(residual)(images), residual(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_table_has_a_row_for_each_step(experiment, data, monkeypatch, tmp_path):
    pytest.importorskip("minisom")
    small = {"features": 4, "growth": 2, "blocks": [1, 1]}
    light = {"features": [2, 2, 2], "hidden": 4}
    monkeypatch.setattr(experiment, "BIG", small)
    monkeypatch.setattr(experiment, "PASSES", 2)
    monkeypatch.setattr(experiment, "STEPS", 1)
    rows = [row for row in experiment.ROWS if row.training in ("big", "all")]
    monkeypatch.setattr(experiment, "ROWS", rows)
    for name, training in list(experiment.TRAININGS.items()):
        options = small if training.model == experiment.BIG_NETWORK else light
        if training.model == "region_of_interest":
            options = training.options | {"model": {"options": light}}
        changed = replace(training, options=options)
        monkeypatch.setitem(experiment.TRAININGS, name, changed)
    out = tmp_path / "run"
    experiment.main(["--root", str(data), "--epochs", "1", "--chips", "2", "--out", str(out)])
    table = pd.read_csv(out / "table.csv", dtype=str)
    assert table["network"].tolist() == [row.title for row in rows]
    assert table["AUROC digital"][:4].nunique() == 1
    assert (out / "teacher.safetensors").is_file()


def test_the_memory_of_a_step_counts_what_is_stored_once_and_no_parameters(experiment):
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    images = torch.zeros(4, 8)
    assert experiment.stored_bytes(network, images, lowered=False) == 4 * (8 + 16) * 4
