import os
import re
import sys
from pathlib import Path

import pytest

from analogmed.cli.exit_status import run_program
from analogmed.foundation.errors import ConfigError, DataError

URL = "s3://KEY:SECRET@bucket/x"


def raising(error):
    def program(_):
        raise error

    return program


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigError("a"), 2, "error: a\n"),
        (DataError("a"), 1, "error: a\n"),
        (OSError(28, "No space left"), 1, "error: [Errno 28] No space left\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (KeyboardInterrupt("1 of 3 units are stored"), 130, "1 of 3 units are stored\n"),
    ],
)
def test_errors_of_a_user_are_one_sentence(error, status, message, capsys):
    assert run_program(raising(error), []) == status
    assert capsys.readouterr() == ("", message)


def test_credentials_in_an_error_are_masked(capsys):
    assert run_program(raising(ConfigError(f"cannot write to {URL}")), []) == 2
    assert capsys.readouterr().err == "error: cannot write to s3://***@bucket/x\n"


def test_an_unforeseen_error_is_a_sentence_with_the_path_of_its_traceback(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["eval", "--store", URL])
    assert run_program(raising(KeyError(URL)), []) == 70
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did not expect this error: KeyError: 's3://***@bucket/x'." in error
    log = Path(re.search(r"Report it with its traceback, which is in (\S+\.log)\.\n", error)[1])
    assert log.parent == tmp_path
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert "in program" in text
    assert "command: ['eval', '--store'" in text
    assert "SECRET" not in text + error


def test_without_a_place_for_the_log_the_traceback_is_printed(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert run_program(raising(RuntimeError("x")), []) == 70
    error = capsys.readouterr().err
    assert error.startswith("error: the program did not expect this error: RuntimeError: x. ")
    assert "Traceback (most recent call last)" in error


def test_a_reader_that_has_ended_is_no_error(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run_program(lambda _: print("help", flush=True), []) == 1
    assert capsys.readouterr().err == ""


def test_another_broken_pipe_is_reported(capsys):
    assert run_program(raising(BrokenPipeError("worker")), []) == 1
    assert capsys.readouterr().err == "error: worker\n"
