"""Progress in a terminal, in a notebook and in a log file."""

import io
import logging
import sys
from contextlib import redirect_stderr
from types import ModuleType, SimpleNamespace

import pytest

from analogmed.foundation import progress
from analogmed.foundation.progress import ProgressBar, announce, without_progress

LOGGER = logging.getLogger("analogmed.tests.progress")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def each_update(monkeypatch):
    """Print a line at each update."""
    monkeypatch.setattr(progress, "INTERVAL_S", 0)


@pytest.fixture
def kernel(monkeypatch):
    """Run as in a kernel of Jupyter, whose stderr is no terminal."""
    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", shell)


def count(total=4, **options):
    with ProgressBar(total, unit="case", title="chips", **options) as bar:
        for _ in range(2):
            bar.update(2)
        return bar


def test_a_terminal_shows_a_bar():
    with redirect_stderr(Terminal()) as terminal:
        assert count().done == 4
    assert "chips: 100%" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


def test_a_notebook_without_widgets_shows_a_bar_of_text(kernel):
    with redirect_stderr(io.StringIO()) as output:
        count()
    assert "chips: 100%" in output.getvalue()


def test_a_log_file_has_lines_with_what_is_done_and_left(each_update, capsys):
    count(total=6)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "chips: case 2 of 6"
    assert second.startswith("chips: case 4 of 6, ")
    assert second.endswith(" left")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when it is told to."""
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.s)
    return now


def test_neither_preparation_nor_parts_finished_before_count_in_the_time_left(
    each_update, clock, capsys
):
    with ProgressBar(14, unit="case", done=10) as bar:
        for passed_s in (3_000, 100, 200):  # the first part includes the preparation
            clock.s += passed_s
            bar.update()
    assert capsys.readouterr().err.splitlines() == [
        "progress: case 11 of 14",
        "progress: case 12 of 14, 03:20 left",
        "progress: case 13 of 14, 02:30 left",
    ]


def test_the_time_left_is_shown_after_5_per_cent_or_a_minute(each_update, clock, capsys):
    with ProgressBar(1_000, unit="case") as bar:
        for _ in range(60):
            clock.s += 1
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert not any("left" in line for line in lines[:50])
    assert lines[50] == "progress: case 51 of 1000, 15:49 left"
    with ProgressBar(1_000, unit="case") as bar:
        for _ in range(4):
            clock.s += 25
            bar.update()
    assert ["left" in line for line in capsys.readouterr().err.splitlines()] == [False] * 3 + [True]


def test_a_bar_shows_no_time_left_at_first(clock):
    with redirect_stderr(Terminal()) as terminal, ProgressBar(10, unit="case") as bar:
        for _ in range(2):
            clock.s += 100
            bar.update()
            bar._bar.refresh()
    shown = terminal.getvalue().split("\r")
    assert all("<?," in text for text in shown if " 0/10 " in text or " 1/10 " in text)
    assert "<13:20," in [text for text in shown if " 2/10 " in text][-1]


def test_lines_are_at_least_half_a_minute_apart(capsys):
    with ProgressBar(6, unit="case") as bar:
        bar.update()
        assert capsys.readouterr().err == ""
        bar._last -= 30
        bar.update()
        bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_bytes_have_prefixes_and_an_unknown_total_is_not_shown(each_update, capsys):
    with ProgressBar(None, unit="B", title="data.tar", scaled=True) as bar:
        bar.update(1_230_000)
    assert capsys.readouterr().err == "data.tar: 1.23MB\n"


def test_the_total_grows_and_title_and_note_change(each_update, capsys):
    with ProgressBar(0, unit="case") as bar:
        bar.expect(3)
        bar.describe("chip 1", note="loss=0.5")
        bar.update()
    line = capsys.readouterr().err
    assert line == "chip 1: case 1 of 3, loss=0.5\n"


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 0), (logging.WARNING, 1)])
def test_a_logged_text_replaces_the_next_line(level, lines, capsys, caplog):
    with caplog.at_level(level, LOGGER.name), ProgressBar(6, unit="case") as bar:
        bar._last -= 30
        bar.log(LOGGER, "epoch 1")
        bar.update()
    assert len(capsys.readouterr().err.splitlines()) == lines
    assert len(caplog.messages) == 1 - lines


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_hidden_progress_counts_only(stream, each_update):
    with redirect_stderr(stream()) as output:
        assert count(shown=False).done == 4
        with without_progress(LOGGER.name):
            assert count().done == 4
        assert output.getvalue() == ""
        count()
    assert output.getvalue()


def test_epochs_are_not_logged_until_the_end_even_by_an_error(caplog):
    with caplog.at_level(logging.INFO, LOGGER.name):
        with pytest.raises(KeyError), without_progress(LOGGER.name):
            LOGGER.info("epoch 1")
            LOGGER.warning("the loss is large")
            raise KeyError
        LOGGER.info("epoch 2")
    assert caplog.messages == ["the loss is large", "epoch 2"]


def test_a_step_without_a_bar_is_named_in_a_terminal_only():
    with redirect_stderr(Terminal()) as terminal:
        announce("reading data")
        with without_progress(LOGGER.name):
            announce("hidden")
    assert terminal.getvalue() == "reading data ...\n"
    with redirect_stderr(io.StringIO()) as file:
        announce("reading data")
    assert file.getvalue() == ""
