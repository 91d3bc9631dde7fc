import pytest

from analogmed.execution.progress import Progress
from analogmed.execution.unit import Unit


@pytest.fixture
def units():
    return [Unit({"chip": chip}, f"chip {chip}", 4) for chip in range(3)]


def test_the_bar_counts_the_cases_of_all_units_and_grows(units, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress(cases=5) as progress:
        progress.expect(units[:2])
        for _ in range(3):
            progress.case(units[0])
        progress.finish(units[0])
        progress.expect(units[2:])
        progress.finish(units[1])
        done = progress.done
    assert done == 2 * 4 * 5
    shown = capsys.readouterr().err
    assert "40/60" in shown
    assert "case/s" in shown


def test_cases_that_are_told_twice_count_once(units):
    with Progress(cases=2) as progress:
        progress.expect(units[:1])
        for _ in range(13):
            progress.case(units[0])
        progress.finish(units[0])
        assert progress.done == 8
