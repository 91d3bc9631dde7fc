"""The shipped networks of the ECG phantom: they load, and classify the beats of a few patients."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from analogmed.data.datasets.mitbih import load_mitbih
from analogmed.data.phantoms.ecg import RATE, draw_ecg
from analogmed.data.signals.leads import TWELVE
from analogmed.data.signals.records import write_record
from analogmed.evaluation.preparation import shipped_folder
from analogmed.foundation.seeds import derive_seed
from analogmed.training import load_checkpoint

PATIENTS = (3, 4, 6, 9, 11, 15)  # of the test part
NETWORKS = {"digital": 0.938, "hwa": 0.936}  # AUROC of all beats of these patients


@pytest.fixture(scope="module")
def beats(tmp_path_factory):
    """Windows and class indices of the beats of the patients, in the files of the phantom."""
    root = tmp_path_factory.mktemp("ecg")
    for number in PATIENTS:
        signals, annotations = draw_ecg(
            np.random.default_rng(derive_seed(0, "ecg", number - 1)), 60
        )
        write_record(root / f"p{number:04}.hea", signals, TWELVE, RATE, annotations)
    task = load_mitbih(root, name="phantom_ecg", classes=("N", "S", "V", "F"), leads=TWELVE)
    samples = [task.read(case) for case in (*task.train, *task.validation, *task.test)]
    images = np.concatenate([sample.image for sample in samples])
    return task, torch.from_numpy(images), np.concatenate([s.label[:, 0] for s in samples])


@pytest.mark.parametrize("training", NETWORKS)
def test_a_shipped_network_has_its_documented_score(beats, training):
    task, images, labels = beats
    checkpoint = load_checkpoint(shipped_folder("phantom_ecg") / f"s4d_ncp-{training}.safetensors")
    checkpoint.info.check_fits(task, checkpoint.path)
    with torch.inference_mode():
        probability = checkpoint.network(images).softmax(1).numpy()
    scores = [roc_auc_score(labels == index, probability[:, index]) for index in range(4)]
    assert np.mean(scores) == pytest.approx(NETWORKS[training], abs=0.005)
