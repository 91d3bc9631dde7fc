import sys

import pytest

from analogmed.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpha", "2"], "alpha: expected a finite number above 0 and below 1, got 2.0"),
        (["--sources", "chip"], "chip"),
        (["mitigation", "--optoins", "batchnorm"], "did you mean '--options'?"),
        (["mitigation", "--images", "0"], "images must be 1 or more, got 0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["analogmed", "uncertainty", *arguments])
    assert main() == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
