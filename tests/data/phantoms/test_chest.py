"""Chest phantom: layout of ChestX-ray14, images of patients, and findings that can be learnt."""

from collections import Counter

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from analogmed.data import load_task
from analogmed.data.datasets.chestxray14 import LISTS, find_table, read_table
from analogmed.data.integrity import verify
from analogmed.data.phantoms.ranges import CHEST_FINDINGS
from analogmed.kinds.classification import MULTILABEL


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_task("phantom_chest", tmp_path_factory.mktemp("chest"), phantom_patients=48)


def images_of(cases):
    return {path.name for case in cases for path in case.images}


def test_the_task_has_the_findings_that_are_drawn(task):
    assert (task.kind, task.name, task.window) == (MULTILABEL, "phantom_chest", (64, 64))
    assert task.classes == CHEST_FINDINGS
    rows = read_table(find_table(task.root))
    found = Counter(finding for row in rows.values() for finding in row.findings)
    assert set(found) == set(CHEST_FINDINGS)


def test_patients_have_several_images_and_the_official_lists_split_them(task):
    counts = Counter(len(case.images) for case in task.train + task.validation + task.test)
    assert {1, 2, 3} <= set(counts) <= set(range(1, 7))
    listed = [set((task.root / name).read_text().split()) for name in LISTS]
    assert images_of(task.train + task.validation) == listed[0]
    assert images_of(task.test) == listed[1]
    assert len(task.test) == 12


def test_files_have_the_form_of_the_real_ones(task, shared_data):
    folder = shared_data / "chestxray14"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    real = find_table(folder).read_text().splitlines()
    drawn = find_table(task.root).read_text().splitlines()
    assert drawn[0] == real[0]
    assert len(drawn[1].split(",")) == len(real[1].split(","))


def test_an_integrity_check_has_no_finding(tmp_path):
    root = load_task("phantom_chest", tmp_path, phantom_patients=4, phantom_size=32).root
    report = verify(root)
    assert (report.layout, report.problems, report.warnings) == ("ChestX-ray14", (), ())


@pytest.mark.slow
def test_a_linear_classifier_learns_part_of_the_findings(tmp_path):
    """The phantom is neither trivial nor impossible: half of its patients are for training."""
    task = load_task("phantom_chest", tmp_path, phantom_patients=240)
    samples = [task.read(case) for case in task.train + task.validation + task.test]
    images = np.concatenate([sample.image.reshape(len(sample.image), -1) for sample in samples])
    labels = np.concatenate([sample.label for sample in samples])
    assert 0.08 < labels.mean(axis=0).min() < labels.mean(axis=0).max() < 0.35
    assert 0.2 < (labels.sum(axis=1) == 0).mean() < 0.5
    patient = np.repeat(np.arange(len(samples)), [len(sample.image) for sample in samples])
    train = patient % 2 == 0
    parts = PCA(40, svd_solver="randomized", random_state=0).fit(images[train])
    features = parts.transform(images)
    scores = {
        name: roc_auc_score(
            label[~train],
            LogisticRegression(C=0.01, max_iter=2000)
            .fit(features[train], label[train])
            .decision_function(features[~train]),
        )
        for name, label in zip(task.classes, labels.T, strict=True)
    }
    assert 0.8 < scores["Cardiomegaly"] < 0.99
    assert max(scores.values()) < 0.99
    assert 0.6 < np.mean(list(scores.values())) < 0.88
