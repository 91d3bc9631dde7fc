import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analogmed.data.case import Case, Task
from analogmed.data.splits import (
    SeenData,
    check_duplicates,
    check_leakage,
    find_duplicates,
    split_by_patient,
    split_from_file,
)
from analogmed.foundation.errors import ConfigError, DataError, LeakageError

SHARES = (0.6, 0.1, 0.3)


def make_cases(n_patients, scans=1):
    return tuple(
        Case(f"p{p}_{s}", f"p{p}", (), ()) for p in range(n_patients) for s in range(scans)
    )


def sizes(split):
    return tuple(len({case.patient_id for case in part}) for part in split)


@given(n_patients=st.integers(0, 60), scans=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_every_case_stands_in_exactly_one_split_with_its_patient(n_patients, scans, seed):
    cases = make_cases(n_patients, scans)
    split = split_by_patient(cases, SHARES, seed)
    assert sorted(c.case_id for part in split for c in part) == sorted(c.case_id for c in cases)
    check_leakage(*split)
    if n_patients >= 3:
        assert min(sizes(split)) >= 1
        for size, share in zip(sizes(split), SHARES, strict=True):
            assert abs(size - share * n_patients) < 2


def test_ten_patients_split_six_one_three():
    assert sizes(split_by_patient(make_cases(10), SHARES, 0)) == (6, 1, 3)


def test_few_patients_leave_something_to_test():
    assert sizes(split_by_patient(make_cases(1), SHARES, 0)) == (0, 0, 1)
    assert sizes(split_by_patient(make_cases(2), SHARES, 0)) == (1, 0, 1)
    assert sizes(split_by_patient(make_cases(3), SHARES, 0)) == (1, 1, 1)
    assert sizes(split_by_patient(make_cases(3), (0.98, 0.01, 0.01), 0)) == (1, 1, 1)


def test_a_share_of_zero_stays_empty():
    assert sizes(split_by_patient(make_cases(10), (0.0, 0.0, 1.0), 0)) == (0, 0, 10)


def test_split_depends_on_the_seed_and_not_on_the_order():
    cases = make_cases(30)
    first = split_by_patient(cases, SHARES, 1)
    again = split_by_patient(cases[::-1], SHARES, 1)
    assert [set(part) for part in first] == [set(part) for part in again]
    assert first != split_by_patient(cases, SHARES, 2)


@pytest.mark.parametrize("n_patients", [1, 2, 3, 9])
@pytest.mark.parametrize("alone", [0, 1, 2])
def test_a_split_with_the_whole_share_gets_every_patient(n_patients, alone):
    shares = [float(split == alone) for split in range(3)]
    parts = split_by_patient(make_cases(n_patients), shares, 0)
    assert [len(part) for part in parts] == [n_patients * (i == alone) for i in range(3)]


@pytest.mark.parametrize(
    ("n_patients", "shares", "counts"),
    [
        (1, (0.6, 0.1, 0.3), (0, 0, 1)),
        (2, (0.6, 0.1, 0.3), (1, 0, 1)),
        (2, (0.5, 0.5, 0.0), (1, 1, 0)),
        (1, (0.8, 0.2, 0.0), (1, 0, 0)),
    ],
)
def test_few_patients_go_to_test_then_train_but_never_to_a_split_without_a_share(
    n_patients, shares, counts
):
    parts = split_by_patient(make_cases(n_patients), shares, 0)
    assert tuple(map(len, parts)) == counts


def test_a_scan_is_recognised_under_another_name_but_not_by_its_background(tmp_path):
    cases = []
    for name, middle in (("p1", b"1"), ("p2", b"2"), ("p3", b"1")):
        (tmp_path / name).write_bytes(bytes(300_000) + middle * 40_000 + bytes(300_000))
        cases.append(Case(name, name, (tmp_path / name,), ()))
    task = Task("b", tmp_path, 3, (), (), (), "mm", (), (), tuple(cases), read=lambda case: None)
    assert SeenData.of("a", cases[:1]).tested_in(task) == {"p1", "p3"}
    unknown = SeenData("a", frozenset({"p2", "p9"}), frozenset())
    assert unknown.tested_in(task) == set() and unknown.namesakes_in(task) == {"p2"}


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.6, 0.1, 0.2), (1.2, -0.1, -0.1), (1.0, 0.0), 0.5, "abc"]
)
def test_shares_that_are_no_three_parts_of_one_are_refused(shares):
    with pytest.raises(ConfigError, match="shares"):
        split_by_patient(make_cases(5), shares, 0)


def test_patient_in_two_splits_is_leakage_and_named():
    with pytest.raises(LeakageError, match=r"p1 \(train, test\)"):
        check_leakage(
            [Case("a", "p1", (), ())], [Case("b", "p2", (), ())], [Case("c", "p1", (), ())]
        )


@pytest.mark.parametrize("name", ["split.yaml", "split.json"])
def test_split_file_says_who_goes_where(tmp_path, name):
    table = {"train": ["p0", "p2"], "test": ["p1"]}
    (tmp_path / name).write_text(json.dumps(table))
    train, validation, test = split_from_file(make_cases(4, scans=2), tmp_path / name)
    assert [case.case_id for case in train] == ["p0_0", "p0_1", "p2_0", "p2_1"]
    assert validation == ()
    assert [case.case_id for case in test] == ["p1_0", "p1_1"]


def test_split_file_of_json_may_be_indented_by_tabs(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["p0"], "test": ["p1"]}, indent="\t"))
    train, _, test = split_from_file(make_cases(2), path)
    assert [case.patient_id for case in train + test] == ["p0", "p1"]


def test_split_file_that_names_a_patient_twice_is_leakage(tmp_path):
    (tmp_path / "split.yaml").write_text("train: [p0, p1]\ntest: [p1]\n")
    with pytest.raises(LeakageError, match="p1"):
        split_from_file(make_cases(2), tmp_path / "split.yaml")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "train: [p0]\nvaldation: [p1]\n", "did you mean 'validation'"),
        ("a.yaml", "train: [p0]\ntrain: [p1]\n", "twice"),
        ("a.json", '{"train": ["p0"], "train": ["p1"]}', "twice"),
        ("a.yaml", "train: [p0, p9]\n", "p9 are not in the data set"),
        ("a.yaml", "train: [001]\n", "in quotes"),
        ("a.yaml", "train: p0\n", "must be a list"),
        ("a.yaml", "- p0\n", "must hold a mapping"),
        ("a.json", "{", "a.json"),
        ("a.yaml", "train: [", "a.yaml"),
        ("a.yaml", "!!python/object:os.system {}", "a.yaml"),
    ],
)
def test_split_file_with_a_fault_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=words):
        split_from_file(make_cases(2), tmp_path / name)


def test_missing_split_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        split_from_file(make_cases(2), tmp_path / "gone.yaml")


@pytest.fixture
def scans(tmp_path):
    def write(case_id, content):
        path = Path(tmp_path / f"{case_id}.nii.gz")
        path.write_bytes(content)
        return Case(case_id, case_id, (path,), ())

    return [write("a", b"one"), write("b", b"two"), write("c", b"one"), write("d", b"three")]


def test_same_scan_under_two_names_is_found_by_its_bytes(scans):
    assert find_duplicates(scans) == ((scans[0], scans[2]),)
    assert find_duplicates(scans[:2]) == ()


def test_duplicates_within_a_split_are_reported_and_across_splits_refused(scans):
    a, b, c, d = scans
    assert check_duplicates([a, c], [b], [d]) == ((a, c),)
    with pytest.raises(LeakageError, match=r"a \(train\) = c \(test\)"):
        check_duplicates([a], [b], [c, d])


def test_only_scans_of_one_length_are_read(scans, tmp_path, monkeypatch):
    """Files of other lengths cannot be opened here, and need not be."""
    for path in (scans[1].images[0], scans[3].images[0]):
        path.write_bytes(path.read_bytes() * 2)
    wrong = {scans[1].images[0], scans[3].images[0]}
    open_file = Path.open

    def open_(path, *arguments, **options):
        assert path not in wrong
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)
    assert find_duplicates(scans) == ((scans[0], scans[2]),)


@pytest.mark.parametrize("changed", [0, 70_000, 199_999])
def test_one_other_byte_makes_another_scan(tmp_path, changed):
    content = bytearray(200_000)
    cases = []
    for name in ("a", "b"):
        content[changed] = name == "b"
        (tmp_path / name).write_bytes(content)
        cases.append(Case(name, name, (tmp_path / name,), ()))
    assert find_duplicates(cases) == ()
    shutil.copy(tmp_path / "a", tmp_path / "b")
    assert find_duplicates(cases) == (tuple(cases),)


def test_a_missing_or_empty_scan_is_left_to_the_reader(scans):
    a, b, c, d = scans
    a.images[0].unlink()
    b.images[0].write_bytes(b"")
    d.images[0].write_bytes(b"")
    without_images = [Case(name, name, (), ()) for name in "ef"]
    assert check_duplicates([a, b, without_images[0]], [], [c, d, without_images[1]]) == ()


def test_scan_that_cannot_be_read_is_named(scans):
    scans[1].images[0].unlink()
    with pytest.raises(DataError, match=r"b\.nii\.gz"):
        find_duplicates(scans)
