import sys
import warnings

import pytest

from analogmed.__main__ import main
from analogmed.uncertainty import main as uncertainty


@pytest.mark.parametrize(
    ("arguments", "option"),
    [([], "--conformal_cases {validation,leave_one_out}"), (["mitigation"], "--images IMAGES")],
)
def test_help_lists_the_settings_and_examples(arguments, option, capsys):
    with pytest.raises(SystemExit) as done:
        uncertainty([*arguments, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    for part in (option, "--task.name NAME", "--hardware.g_max_us", "\nexamples:\n  python"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpha", "2"], "alpha must lie between 0 and 1, got 2.0"),
        (["--sources", "chip"], "chip"),
        (["mitigation", "--optoins", "batchnorm"], "did you mean '--options'?"),
        (["mitigation", "--images", "0"], "images must be 1 or more, got 0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["analogmed", "uncertainty", *arguments])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    assert main() == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
