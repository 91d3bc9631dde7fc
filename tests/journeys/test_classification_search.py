"""Search and shared weights on a chest X-ray task: networks of the space without a decoder."""

import json

import numpy as np
import pandas as pd
import pytest

from analogmed.cli.main import main

SPACE = [
    *("--space.purpose", "classification", "--space.depths", "2", "--space.blocks", "C", "E"),
    *("--space.widths", "4", "--space.growths", "2", "--space.kernels", "3"),
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    options = "{phantom_patients: 120, phantom_size: 32}"
    root = tmp_path_factory.mktemp("chest")
    return ["--task", "phantom_chest", "--task.root", str(root), "--task.options", options]


def test_a_search_finds_networks_that_classify(task, tmp_path):
    out = tmp_path / "search"
    command = ["search", *task, *SPACE, "--strategy.name", "random", "--budget", "1"]
    candidate = ["--candidate.epochs", "1", "--candidate.hwa_epochs", "1", "--candidate.chips", "2"]
    options = ["--objectives", "auroc_1d", "uncertainty", "--final_epochs", "0", "--out", str(out)]
    assert main([*command, *candidate, *options]) == 0
    candidates = pd.read_csv(out / "candidates.csv")
    assert np.isfinite(candidates[["auroc_1d", "uncertainty"]].to_numpy()).all()
    assert json.loads(candidates["genotype"][0])["purpose"] == "classification"


def test_objectives_that_are_not_defined_are_refused(task, tmp_path, capsys):
    assert main(["search", *task, *SPACE, "--out", str(tmp_path)]) == 2
    assert "objectives: dice is not defined for classes of whole images" in capsys.readouterr().err
    segments = ["--space.purpose", "segmentation", "--objectives", "auroc_1d"]
    assert main(["search", *task, *SPACE, *segments, "--out", str(tmp_path)]) == 2
    assert "expected classification for task phantom_chest, got" in capsys.readouterr().err


def test_a_supernetwork_shares_the_weights_of_networks_that_classify(task, tmp_path):
    out = tmp_path / "supernet"
    options = ["--rule", "sandwich", "--epochs", "1", "--probes", "1"]
    pruning = ["--pruning.every", "1", "--pruning.keep", "1"]
    command = ["search", "supernet", *task, *SPACE, *options, *pruning]
    assert main([*command, "--out", str(out)]) == 0
    pruned = pd.read_csv(out / "pruning.csv")
    assert len(pruned) == 2
    assert pruned["dice"].between(0, 1).all()
