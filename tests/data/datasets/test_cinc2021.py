"""CinC 2021 and CPSC 2018: labels from codes and texts, inputs of one length, bad content."""

from collections import Counter

import numpy as np
import pytest

from analogmed.data import load_task
from analogmed.data.datasets.cinc2021 import load_cinc2021
from analogmed.data.integrity import verify
from analogmed.data.signals.diagnoses import CODES, CPSC, SCORED, diagnoses
from analogmed.data.signals.leads import TWELVE
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.kinds.classification import MULTILABEL

RATE = 500
DIAGNOSES = ("426783006", "164889003,427393009", "733534002,428750005", "164909002", "284470004")


def write(folder, name, dx="426783006", seconds=10, seed=None):
    """Write a record in the form of the challenge: 24 bytes, then samples of 16 bits."""
    rng = np.random.default_rng(int(name[1:]) if seed is None else seed)
    steps = rng.normal(0, 200, size=(RATE * seconds, 12)).astype("<i2")
    (folder / f"{name}.mat").write_bytes(b"\0" * 24 + steps.tobytes())
    sums = steps.sum(axis=0, dtype=np.int64) % 2**16
    lines = [f"{name} 12 {RATE} {len(steps)}"]
    for lead, first, total in zip(TWELVE, steps[0], sums, strict=True):
        lines.append(f"{name}.mat 16x1+24 1000.0(0)/mv 16 0 {first} {total} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join([*lines, "# Age: 60", f"# Dx: {dx}", ""]))


@pytest.fixture
def root(tmp_path):
    for number, dx in enumerate(DIAGNOSES, start=1):
        write(tmp_path, f"A{number:04}", dx)
    return tmp_path


def labels_of(task):
    """Return the classes of each case by its name."""
    cases = task.train + task.validation + task.test
    return {
        case.case_id: {task.classes[n] for n in np.flatnonzero(task.read(case).label[0])}
        for case in cases
    }


def test_a_record_has_labels_of_its_codes(root):
    task = load_task("cinc2021", root)
    assert (task.kind, task.name, task.classes) == (MULTILABEL, "cinc2021", SCORED)
    assert (task.channels, task.window, task.spatial_dims) == (TWELVE, (1000,), 1)
    found = labels_of(task)
    expected = {"A0001": {"NSR"}, "A0002": {"AF", "SA"}, "A0003": {"LBBB"}, "A0004": {"LBBB"}}
    assert {name: found[name] for name in expected} == expected  # 428750005 is not scored
    assert found["A0005"] == {"PAC"}


def test_texts_and_codes_of_cpsc_are_the_same_labels(tmp_path):
    for number, dx in enumerate(("PVC", "164884008", "Normal", "426783006", "I-AVB"), start=1):
        write(tmp_path, f"A{number:04}", dx)
    task = load_task("cpsc2018", tmp_path)
    assert (task.name, task.classes) == ("cpsc2018", CPSC)
    found = labels_of(task)
    assert found["A0001"] == found["A0002"] == {"VEB"}
    assert found["A0003"] == found["A0004"] == {"NSR"}
    assert found["A0005"] == {"IAVB"}


def test_the_input_is_the_start_of_a_record_and_0_after_its_end(tmp_path):
    for number, seconds in enumerate((10, 8, 16), start=1):
        write(tmp_path, f"A{number:04}", seconds=seconds)
    task = load_cinc2021(tmp_path)
    images = {
        case.case_id: task.read(case).image for case in task.train + task.validation + task.test
    }
    assert {image.shape for image in images.values()} == {(1, 12, 1000)}
    assert images["A0001"][0, :, -1].all()
    assert images["A0002"][0, :, 799].all()
    assert not images["A0002"][0, :, 800:].any()


def test_equal_records_are_of_one_patient(root):
    for name in ("A0006", "A0007"):
        write(root, name, seed=99)
    task = load_cinc2021(root)
    patients = {case.case_id: case.patient_id for case in task.train + task.validation + task.test}
    assert patients["A0007"] == patients["A0006"] == "A0006"
    assert len(set(patients.values())) == 6


def test_records_are_found_in_the_folders_of_the_challenge(tmp_path):
    for number in range(1, 5):
        folder = tmp_path / "training" / ("georgia", "ptb-xl")[number % 2] / "g1"
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, f"A{number:04}")
    hidden = tmp_path / ".snapshot"
    hidden.mkdir()
    write(hidden, "A0001")
    assert sorted(labels_of(load_cinc2021(tmp_path))) == ["A0001", "A0002", "A0003", "A0004"]
    report = verify(tmp_path)
    assert (report.layout, report.ok) == ("12-lead ECG", True)
    write(folder, "A0001")
    with pytest.raises(DataError, match=r"A0001.hea: a second record of the name A0001, as .*g1"):
        load_cinc2021(tmp_path)


def test_classes_have_names_and_codes_of_their_own():
    codes = [code for each in CODES.values() for code in each]
    assert len(codes) == len(set(codes))
    assert {*SCORED, *CPSC} == CODES.keys()
    assert len(SCORED) == 26


@pytest.mark.parametrize(
    ("comments", "message"),
    [
        (["Age: 5"], r"a.hea: expected one comment Dx: with diagnoses, got 0"),
        (["Dx: 1", "Dx: 2"], r"got 2"),
        (["Dx: 426783006,42"], r"a.hea: unknown diagnosis '42'; expected codes of SNOMED CT"),
        (["Dx: "], r"unknown diagnosis ''"),
    ],
)
def test_diagnoses_that_do_not_fit_are_named(comments, message):
    with pytest.raises(DataError, match=message):
        diagnoses(comments, "a.hea")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["AFF"], "unknown diagnosis 'AFF'; did you mean 'AF"),
        (["AF", "AF"], r"expected one or more different diagnoses, got \['AF', 'AF'\]"),
        ([], "expected one or more different diagnoses"),
    ],
)
def test_classes_that_do_not_fit_are_refused(root, classes, message):
    with pytest.raises(ConfigError, match=message):
        load_task("cinc2021", root, classes=classes)


def test_an_integrity_check_reports_each_record(root):
    assert verify(root).ok
    (root / "A0001.mat").write_bytes((root / "A0001.mat").read_bytes()[:-24])
    text = (root / "A0002.hea").read_text()
    (root / "A0002.hea").write_text(text.replace("164889003", "164889004"))
    (root / "A0003.mat").unlink()
    report = verify(root)
    found = " ".join(finding.what for finding in report.problems)
    assert report.layout == "12-lead ECG"
    assert "4999 samples of each signal; expected the 5000 of its header" in found
    assert "unknown diagnosis '164889004'" in found
    assert "missing file, expected one for each header" in found
    assert len(report.problems) == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpsc2018", {"AF": 4, "RBBB": 3, "NSR": 1, "VEB": 1, "STD": 1}),
        pytest.param(
            "cinc2021",
            {
                "STach": 23, "PAC": 20, "NSR": 15, "TAb": 10, "NSIVCB": 9, "SB": 7, "TInv": 5,
                "PVC": 5, "LQT": 2, "RBBB": 2, "IRBBB": 1, "SA": 1, "PRWP": 1,
            },
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_the_real_records_have_their_labels(shared_data, name, expected):
    folder = shared_data / "ecg" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    task = load_task(name, folder)
    labels = labels_of(task)
    assert Counter(each for found in labels.values() for each in found) == expected
