"""MIT-BIH: beats and their windows, division of records, options, and bad content."""

from collections import Counter

import numpy as np
import pytest

from analogmed.data import load_task
from analogmed.data.datasets.mitbih import DS1, DS2, EXCLUDED, VALIDATION, load_mitbih
from analogmed.data.integrity import verify
from analogmed.data.signals.records import Annotations, write_record
from analogmed.foundation.errors import ConfigError, DataError, LeakageError
from analogmed.kinds.classification import MULTICLASS
from analogmed.kinds.sequence import NO_CLASS, SEQUENCE

RATE, SECONDS = 360, 12
BEATS = "NLVAFQN"
COUNTS = {
    "100": (2239, 33, 1, 0, 0), "101": (1860, 3, 0, 0, 2), "103": (2082, 2, 0, 0, 0),
    "105": (2526, 0, 41, 0, 5), "106": (1507, 0, 520, 0, 0), "108": (1740, 4, 17, 2, 0),
    "109": (2492, 0, 38, 2, 0), "111": (2123, 0, 1, 0, 0), "114": (1820, 12, 43, 4, 0),
    "118": (2166, 96, 16, 0, 0), "119": (1543, 0, 444, 0, 0), "200": (1743, 30, 826, 2, 0),
    "201": (1635, 128, 198, 2, 0), "202": (2061, 55, 19, 1, 0), "203": (2529, 2, 444, 1, 4),
    "205": (2571, 3, 71, 11, 0), "207": (1543, 107, 210, 0, 0), "208": (1586, 2, 992, 373, 2),
    "209": (2621, 383, 1, 0, 0), "210": (2423, 22, 195, 10, 0),
}  # fmt: skip
"""Beats of the classes N, S, V, F and Q of real records."""


def write(folder, name, symbols=BEATS, leads=("V1", "MLII"), seed=None):
    """Write a record whose beats are spikes in its second lead, a second and a half apart."""
    rng = np.random.default_rng(int(name) if seed is None else seed)
    signals = rng.normal(0, 0.05, size=(2, RATE * SECONDS))
    peaks = 30 + np.arange(len(symbols)) * 540
    signals[1, peaks] = 5.0
    write_record(folder / f"{name}.hea", signals, leads, RATE, Annotations(peaks, tuple(symbols)))
    return folder / f"{name}.hea"


@pytest.fixture
def root(tmp_path):
    """Records of MIT-BIH: three of DS1, one of them for validation, and two of DS2."""
    for name in ("106", "108", "119", "100", "103"):
        write(tmp_path, name)
    return tmp_path


def cases_of(task):
    return [[case.case_id for case in part] for part in (task.train, task.validation, task.test)]


def test_the_division_is_that_of_the_literature():
    assert len(DS1) == len(DS2) == len({*DS1, *DS2}) / 2 == 22
    assert {*VALIDATION} < {*DS1}
    assert not {*EXCLUDED} & {*DS2}


def test_a_record_is_a_case_of_its_beats(root):
    task = load_task("mitbih", root)
    assert (task.kind, task.primary_metric, task.spatial_dims) == (MULTICLASS, "auroc", 1)
    assert (task.channels, task.classes, task.window) == (("MLII",), ("N", "S", "V"), (256,))
    assert cases_of(task) == [["106", "119"], ["108"], ["100", "103"]]
    sample = task.read(task.train[0])
    assert (sample.image.shape, sample.image.dtype) == ((5, 1, 256), np.float32)
    assert sample.label[:, 0].tolist() == [0, 0, 2, 1, 0]  # N L V A N


def test_the_peak_is_in_the_middle_and_windows_end_with_the_record(root):
    task = load_mitbih(root, classes=["N", "S", "V", "F", "Q"])
    images = task.read(task.train[0]).image[:, 0]
    assert images.argmax(axis=1).tolist() == [128] * len(BEATS)
    assert not images[0, : 128 - 8].any()  # the first beat is at sample 30 of 360 Hz
    assert images[1].all()


@pytest.mark.parametrize(("delay_s", "after"), [(0.0, 0), (0.5, 50), (0.64, 64)])
def test_a_record_is_read_in_segments_with_a_class_at_each_beat(root, delay_s, after):
    window = load_mitbih(root, window_s=1.28)
    options = {"window_s": 1.28, "segment_s": 4.0, "delay_s": delay_s}
    task = load_task("mitbih", root, **options)
    assert (task.kind, task.primary_metric, task.window) == (SEQUENCE, "auroc", (400,))
    for case in task.train:
        sample, beats = task.read(case), window.read(case)
        assert sample.image.shape == (3, 1, 400)  # every 2.72 s, but the third has no beat
        assert SEQUENCE.references(sample.label).tolist() == beats.label.tolist()
        for (number, place), around in zip(
            np.argwhere(sample.label != NO_CLASS), beats.image, strict=True
        ):
            start = place - after - 64
            assert np.array_equal(sample.image[number, :, start : start + 128], around)
        strip, of_windows = task.strip(case), window.strip(case)
        assert np.array_equal(strip.places, of_windows.places)


def test_segments_without_a_beat_are_left_out_and_two_beats_at_a_sample_count_once(tmp_path):
    for name in ("106", "108", "100"):
        rng = np.random.default_rng(0)
        peaks = np.array([29, 30, RATE * 11])
        signals = rng.normal(0, 0.05, size=(2, RATE * SECONDS))
        beats = Annotations(peaks, ("N", "V", "V"))
        write_record(tmp_path / f"{name}.hea", signals, ("V1", "MLII"), RATE, beats)
    task = load_mitbih(tmp_path, window_s=0.64, segment_s=2.0, delay_s=0)
    sample = task.read(task.test[0])
    assert len(sample.image) == 2
    assert SEQUENCE.references(sample.label)[:, 0].tolist() == [0, 2]
    assert len(task.strip(task.test[0]).places) == 2


def test_classes_leads_rate_and_window_can_be_chosen(root):
    options = {"classes": ["V", "Q"], "apart": "Q", "leads": "V1", "rate": 200, "window_s": 0.64}
    task = load_task("mitbih", root, **options)
    assert (task.classes, task.apart, task.channels) == (("V", "Q"), ("Q",), ("V1",))
    assert task.window == (128,)
    assert task.read(task.test[0]).label[:, 0].tolist() == [0, 1]


def test_two_leads_are_two_channels_in_the_given_order(root):
    task = load_mitbih(root, leads=["MLII", "V1"], missing_leads=["V1"])
    image = task.read(task.test[0]).image
    assert image.shape == (5, 2, 256)
    assert image[:, 0].any()
    assert not image[:, 1].any()


def test_beats_during_flutter_are_left_out(tmp_path):
    for name in ("106", "108", "100"):
        write(tmp_path, name, "NV[!V!]N")
    task = load_mitbih(tmp_path)
    assert task.read(task.test[0]).label[:, 0].tolist() == [0, 2, 0]


def test_an_end_of_flutter_without_a_start_does_not_hide_the_next(tmp_path):
    for name in ("106", "108", "100"):
        write(tmp_path, name, "N][V]S")
    task = load_mitbih(tmp_path)
    assert task.read(task.test[0]).label[:, 0].tolist() == [0, 1]


def test_records_of_one_patient_are_in_one_part(root):
    for name in ("201", "202", "102"):
        write(root, name)
    task = load_mitbih(root)
    assert cases_of(task) == [["106", "119"], ["108"], ["100", "103", "202"]]
    with pytest.raises(LeakageError, match=r"201 and 202 \(train, test\)"):
        load_mitbih(root, exclude=["102"])
    with pytest.raises(DataError, match=r"records 102 are in neither part .*\(DS1, DS2\)"):
        load_mitbih(root, exclude=[201])


def test_a_split_file_replaces_the_division(root):
    split = root / "split.yaml"
    split.write_text("train: ['100']\nvalidation: ['103']\ntest: ['106', '108']\n")
    assert cases_of(load_mitbih(root, split_file=split)) == [["100"], ["103"], ["106", "108"]]


def test_records_of_other_names_are_split_by_patient(tmp_path):
    for number in range(900, 910):
        write(tmp_path, str(number))
    first, second = (load_mitbih(tmp_path, split_seed=seed) for seed in (0, 1))
    assert list(map(len, cases_of(first))) == [6, 1, 3]
    assert cases_of(first) != cases_of(second)


def test_without_its_validation_records_some_are_drawn(tmp_path):
    for name in ("101", "106", "109", "100"):
        write(tmp_path, name)
    assert list(map(len, cases_of(load_mitbih(tmp_path)))) == [2, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["N", "X"]}, "unknown class 'X'; choose from: F, N, Q, S, V"),
        ({"classes": "N"}, "expected two or more different classes, got N"),
        ({"segment_s": 5.0}, r"task\.options\.segment_s.* 5\.12"),
        ({"segment_s": "ten"}, r"task\.options\.segment_s.*'ten'"),
        ({"segment_s": 10, "delay_s": 1.3}, r"task\.options\.delay_s.*1\.28.* 1\.3"),
        ({"apart": "Q"}, "task.options.apart: unknown class 'Q'; choose from: N, S, V"),
        ({"apart": ["N", "S", "V"]}, "expected some of the classes N, S, V, but not all of them"),
        ({"leads": 3}, "task.options.leads: expected a list of texts, got 3"),
        ({"window_s": 0.1}, "task.options.window_s: expected a finite number at least 0.3"),
        ({"exclude": ["107", "999"]}, "expected names of records in .*, got 999"),
        ({"noise": {"muscle": None}}, r"task.options.noise.muscle \(dB\)"),
    ],
)
def test_options_that_do_not_fit_are_refused(root, options, message):
    with pytest.raises(ConfigError, match=message):
        load_task("mitbih", root, **options)


def test_missing_files_and_leads_are_named(root):
    (root / "106.atr").unlink()
    with pytest.raises(DataError, match=r"106.atr: missing file"):
        load_mitbih(root)
    write(root, "106", leads=("V1", "V2"))
    task = load_mitbih(root)
    with pytest.raises(DataError, match=r"case 106: .*106.hea: no lead MLII; expected it among V1"):
        task.read(task.train[0])


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ("NVB", "unknown symbol 'B'; expected those of MIT-BIH"),
        ("FF+", "no beat of the classes N,"),
    ],
)
def test_annotations_that_do_not_fit_are_named(root, symbols, message):
    write(root, "106", symbols)
    task = load_mitbih(root)
    with pytest.raises(DataError, match=f"case 106: .*106.atr: {message}"):
        task.read(task.train[0])


def test_an_integrity_check_reports_each_record(root):
    assert verify(root).ok
    samples = root / "106.dat"
    content = bytearray(samples.read_bytes())
    content[8] ^= 1
    samples.write_bytes(content)
    (root / "108.dat").write_bytes(b"short")
    write(root, "103", "NB")
    report = verify(root)
    found = {finding.path.name: finding.what for finding in report.problems}
    assert report.layout == "MIT-BIH"
    assert "do not have the checksum of the header" in found["106.dat"]
    assert "1 samples of each signal" in str(found)
    assert "unknown symbol 'B'" in str(found)
    assert len(report.problems) == 3


def test_the_real_records_have_the_published_beats(shared_data, tmp_path):
    folder = shared_data / "ecg" / "mitdb"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    task = load_mitbih(folder, classes=["N", "S", "V", "F", "Q"])
    assert list(map(len, cases_of(task))) == [9, 3, 7]
    cases = {case.case_id: case for case in task.train + task.validation + task.test}
    assert cases.keys() == COUNTS.keys() - {"201"}
    for name in ("114", "202", "207"):
        counts = Counter(task.read(cases[name]).label[:, 0].tolist())
        assert tuple(counts[index] for index in range(5)) == COUNTS[name]
