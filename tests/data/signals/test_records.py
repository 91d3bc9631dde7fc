"""WFDB records: headers against files, checksums, annotations, units, and damaged content."""

import numpy as np
import pytest

from analogmed.data.signals.records import (
    Annotations,
    check_signals,
    read_annotations,
    read_header,
    read_leads,
    write_record,
)
from analogmed.foundation.errors import DataError

LENGTH, RATE = 500, 250
LEADS = ("I", "II", "MLII")
"""Leads that a data set reads."""


@pytest.fixture
def header(tmp_path):
    """A record of two leads with three beats."""
    time = np.arange(LENGTH) / RATE
    signals = np.stack([np.sin(2 * np.pi * time), np.cos(2 * np.pi * time)])
    beats = Annotations(np.array([50, 250, 499]), ("N", "V", "N"))
    write_record(tmp_path / "r1.hea", signals, ["MLII", "V1"], RATE, beats)
    return tmp_path / "r1.hea"


def ignore(*_):
    """Take a warning."""


def edit(header, old, new):
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))


def test_leads_are_read_by_name_in_mv(header):
    record = read_header(header)
    first, second = read_leads(record, ["V1", "MLII"])
    assert (first[0], second[0]) == (1.0, 0.0)
    edit(header, "(0)/mV 16 0 1000", "(0)/uV 16 0 1000")
    (micro,) = read_leads(read_header(header), ["V1"])
    np.testing.assert_allclose(micro, first / 1000)
    edit(header, "(0)/uV", "(0)/mmHg")
    with pytest.raises(DataError, match=r"r1.hea: lead V1 has the unit 'mmHg'; expected mV, uV or"):
        read_leads(read_header(header), ["V1"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("r1 2 250 500", "r1 2 0 500", r"expected a sampling rate from 1 to|damaged header"),
        ("r1 2 250 500", "r1 2 0.0004 500", r"a sampling rate from 1 to 100,000 Hz, got 0.0004"),
        ("r1 2 250 500", "r1 2 99999999 500", r"rate from 1 to 100,000 Hz, got 99999999"),
        ("r1 2 250 500", "r1 2 250 0", r"no signals or samples"),
        ("r1 2 250 500", "r1 2 250 900000000", r"expected at most 64 signals and \d+ samples"),
        ("r1 2 250 500", "r1/3 2 250 500", r"expected one segment|damaged header"),
        ("r1 2 250 500", "r1 two", r"r1.hea: "),
        ("r1.dat 16 ", "~ 16 ", r"expected the name of a file next to it, got '~'"),
        ("r1.dat 16 ", "../r1.dat 16 ", r"r1.hea: damaged header"),
        ("r1.dat 16 ", "r1.dat 516 ", r"samples in format 516; expected one of 8, 80, "),
        ("r1.dat 16 ", "r2.dat 16 ", r"r2.dat: missing file"),
        ("V1", "MLII", r"expected different names of signals, got MLII, MLII"),
    ],
)
def test_a_header_that_does_not_fit_is_named(header, old, new, message):
    edit(header, old, new)
    with pytest.raises(DataError, match=message):
        read_header(header)


def test_a_truncated_file_is_named_with_its_samples(header):
    samples = header.with_suffix(".dat")
    samples.write_bytes(samples.read_bytes()[:-6])
    expected = r"r1.dat: 498 samples of each signal; expected the 500 of its header"
    with pytest.raises(DataError, match=expected):
        read_header(header)


def test_a_flipped_bit_changes_the_checksum(header):
    check_signals(read_header(header), LEADS, ignore)
    samples = header.with_suffix(".dat")
    content = bytearray(samples.read_bytes())
    content[100] ^= 4
    samples.write_bytes(content)
    with pytest.raises(DataError, match=r"r1.dat: the samples of lead MLII do not have the check"):
        check_signals(read_header(header), LEADS, ignore)


def test_a_constant_lead_is_a_warning_and_an_invalid_sample_a_problem(tmp_path):
    signals = np.zeros((2, LENGTH))
    signals[0] = np.linspace(0, 1, LENGTH)
    beats = Annotations(np.array([5]), ("N",))
    write_record(tmp_path / "r1.hea", signals, ["I", "II"], RATE, beats)
    found = []
    check_signals(read_header(tmp_path / "r1.hea"), LEADS, lambda *finding: found.append(finding))
    assert found == [(tmp_path / "r1.dat", "lead II is constant", "it counts as a missing lead")]
    samples = np.fromfile(tmp_path / "r1.dat", dtype="<i2").reshape(LENGTH, 2)
    samples[7, 1] = -(2**15)
    samples.tofile(tmp_path / "r1.dat")
    edit(tmp_path / "r1.hea", "0 0 0 II", f"0 {2**15} 0 II")
    record = read_header(tmp_path / "r1.hea")
    assert np.flatnonzero(np.isnan(read_leads(record, ["II"])[0])).tolist() == [7]
    with pytest.raises(DataError, match=r"lead II has 1 invalid samples \(NaN\)"):
        check_signals(record, LEADS, ignore)
    found = []
    check_signals(record, ["I"], lambda *finding: found.append(finding[1:]))
    assert found == [
        ("lead II has 1 invalid samples (NaN)", "set task.options.nan_policy to missing to read it")
    ]


def test_an_unused_signal_may_have_another_unit(header):
    edit(header, "(0)/mV 16 0 1000", "(0)/mmHg 16 0 1000")
    found = []
    check_signals(read_header(header), LEADS, lambda *finding: found.append(finding[1]))
    assert found == ["lead V1 has the unit 'mmHg', no voltage"]
    with pytest.raises(DataError, match="lead V1 has the unit 'mmHg'"):
        check_signals(read_header(header), ["V1"], ignore)


def test_annotations_are_within_the_record(header):
    record = read_header(header)
    found = read_annotations(header.with_suffix(".atr"), record)
    assert (found.samples.tolist(), found.symbols) == ([50, 250, 499], ("N", "V", "N"))
    edit(header, "250 500", "250 400")
    with pytest.raises(DataError, match=r"an annotation at sample 499 of record r1, which has 400"):
        read_annotations(header.with_suffix(".atr"), read_header(header))


@pytest.mark.filterwarnings("ignore:.*inplace")
def test_annotations_with_a_rate_of_their_own_are_placed_on_the_samples(header):
    import wfdb  # warns where it is imported

    def write(samples, rate):
        folder = str(header.parent)
        wfdb.wrann("r1", "atr", np.array(samples), ["N"] * len(samples), fs=rate, write_dir=folder)
        return read_annotations(header.with_suffix(".atr"), read_header(header)).samples.tolist()

    assert write([50, 250, 499], RATE) == [50, 250, 499]
    assert write([100, 501, 999], 2 * RATE) == [50, 250, 499]
    assert write([25, 125], RATE / 2) == [50, 250]
    with pytest.raises(DataError, match=r"at sample 500 of record r1, which has 500 samples"):
        write([1000], 2 * RATE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"r1.atr: empty file"),
        (b"\0\0", r"r1.atr: (no annotation; expected one of each beat|damaged annotations)"),
        (b"\1\2\3", r"r1.atr: (no annotation|damaged annotations)"),
        (b"<html>", r"r1.atr: a web page"),
    ],
)
def test_annotations_that_cannot_be_read_are_named(header, content, message):
    path = header.with_suffix(".atr")
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_annotations(path, read_header(header))
