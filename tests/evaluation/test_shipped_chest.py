"""The shipped networks of the chest phantom load, and have their documented scores."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from analogmed.config import TaskConfig
from analogmed.evaluation.preparation import shipped_folder
from analogmed.training import load_checkpoint

NETWORKS = {"digital": 0.817, "hwa": 0.820}  # AUROC of the test patients in docs/tutorials


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return TaskConfig(name="phantom_chest", root=tmp_path_factory.mktemp("chest")).load()


@pytest.mark.slow
@pytest.mark.parametrize("training", NETWORKS)
def test_a_shipped_network_has_its_documented_score(task, training):
    folder = shipped_folder("phantom_chest")
    checkpoint = load_checkpoint(folder / f"light_classifier-{training}.safetensors")
    checkpoint.info.check_fits(task, checkpoint.path)
    checkpoint.info.refuse_leakage(task, checkpoint.path)
    samples = [task.read(case) for case in task.test]
    images = torch.from_numpy(np.concatenate([sample.image for sample in samples]))
    with torch.inference_mode():
        probabilities = checkpoint.network(images).sigmoid().numpy()
    labels = np.concatenate([sample.label for sample in samples])
    assert roc_auc_score(labels, probabilities) == pytest.approx(NETWORKS[training], abs=0.001)
