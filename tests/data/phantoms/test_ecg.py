"""ECG phantom: leads, rhythm, WFDB files, and beats that are neither trivial nor impossible."""

from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from analogmed.data import load_task
from analogmed.data.integrity import verify
from analogmed.data.phantoms.ecg import RATE, SYMBOLS, draw_ecg
from analogmed.data.signals.leads import TWELVE
from analogmed.data.signals.records import read_annotations, read_header, read_leads, write_record
from analogmed.kinds.classification import MULTICLASS


@pytest.fixture(scope="module")
def drawn():
    return draw_ecg(np.random.default_rng(5), 40)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("ecg")
    return load_task("phantom_ecg", root, phantom_patients=5, phantom_size=32)


def test_limb_leads_follow_from_two(drawn):
    lead = dict(zip(TWELVE, drawn[0], strict=True))
    exact = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(lead["III"], lead["II"] - lead["I"], **exact)
    np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, **exact)
    np.testing.assert_allclose(lead["aVL"], lead["I"] - lead["II"] / 2, **exact)
    np.testing.assert_allclose(lead["aVF"], lead["II"] - lead["I"] / 2, **exact)


def test_files_hold_the_leads_and_the_beats(drawn, tmp_path):
    signals, annotations = drawn
    write_record(tmp_path / "p1.hea", signals, TWELVE, RATE, annotations, comments=["a phantom"])
    record = read_header(tmp_path / "p1.hea")
    assert (record.leads, record.rate, record.length) == (TWELVE, RATE, signals.shape[1])
    assert record.comments == ("a phantom",)
    np.testing.assert_allclose(read_leads(record, TWELVE), signals, rtol=0, atol=0.000501)
    found = read_annotations(tmp_path / "p1.atr", record)
    np.testing.assert_array_equal(found.samples, annotations.samples)
    assert found.symbols == annotations.symbols


def test_ectopic_beats_come_early_and_a_pause_follows_ventricular_ones():
    ratios = {symbol: [] for symbol in SYMBOLS}
    pauses = []
    for seed in range(8):
        _, annotations = draw_ecg(np.random.default_rng(seed), 60)
        intervals = np.diff(annotations.samples)
        typical = np.median(intervals)
        for number, symbol in enumerate(annotations.symbols[1:-1]):
            ratios[symbol].append(intervals[number] / typical)
            if symbol == "V":
                pauses.append(intervals[number + 1] / typical)
    assert min(map(len, (ratios["A"], ratios["V"], ratios["F"]))) > 5
    assert np.mean(ratios["A"]) == pytest.approx(0.8, abs=0.06)
    assert np.mean(ratios["V"]) == pytest.approx(0.8, abs=0.06)
    assert np.mean(ratios["F"]) == pytest.approx(0.95, abs=0.05)
    assert np.mean(pauses) == pytest.approx(1.2, abs=0.08)


def test_the_task_has_windows_of_12_leads_and_four_classes(task):
    assert (task.kind, task.name, task.spatial_dims) == (MULTICLASS, "phantom_ecg", 1)
    assert (task.channels, task.classes) == (TWELVE, ("N", "S", "V", "F"))
    sample = task.read(task.train[0])
    assert sample.image.shape == (len(sample.label), 12, *task.window)
    assert (sample.image.dtype, sample.label.dtype) == (np.float32, np.uint8)
    patients = [{case.patient_id for case in part} for part in (task.train, task.test)]
    assert not patients[0] & patients[1]


def test_an_integrity_check_has_no_finding(task):
    report = verify(task.root)
    assert (report.layout, report.problems, report.warnings) == ("MIT-BIH", (), ())


@pytest.mark.slow
def test_a_linear_classifier_learns_most_of_the_classes(tmp_path):
    """The phantom is neither trivial nor impossible: half of its patients are for training."""
    task = load_task("phantom_ecg", tmp_path)
    samples = [task.read(case) for case in task.train + task.validation + task.test]
    label = np.concatenate([sample.label[:, 0] for sample in samples])
    assert all(count > 60 for count in Counter(label.tolist()).values())
    patient = np.repeat(np.arange(len(samples)), [len(sample.label) for sample in samples])
    images = np.concatenate([sample.image[:, ::3, ::8] for sample in samples])
    features = images.reshape(len(images), -1)
    train = patient % 2 == 0
    scaler = StandardScaler().fit(features[train])
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=300)
    model.fit(scaler.transform(features[train]), label[train])
    probability = model.predict_proba(scaler.transform(features[~train]))
    scores = [
        roc_auc_score(label[~train] == index, probability[:, index])
        for index in range(len(task.classes))
    ]
    assert min(scores) > 0.7
    assert max(scores) < 0.99
