"""Tables that `eval` prints: a narrow one, and the complete one on request."""

import pytest

from analogmed.cli.evaluation import EvalConfig
from analogmed.cli.parse import parse
from analogmed.cli.programs.evaluate import run
from analogmed.config import Experiment, SweepConfig


def test_the_printed_tables_are_no_settings_of_the_evaluation():
    words = ["--sweep.chips", "3", "--wide", "true", "--costs", "true"]
    settings = parse(EvalConfig, words, prog="eval")
    assert settings.wide and settings.costs
    assert settings.experiment() == parse(Experiment, words[:2], prog="eval")
    assert type(settings.experiment()) is Experiment


@pytest.mark.slow
def test_the_table_is_narrow_and_all_estimates_are_there_on_request(
    tiny_task, tiny_digital, tmp_path, capsys
):
    given = {
        "task": tiny_task, "checkpoints": (tiny_digital,), "out": tmp_path / "run", "examples": 0,
        "sweep": SweepConfig(chips=2, times_s=(0.0, 86_400.0)),
    }  # fmt: skip
    printed = {}
    for name in ("narrow", "costs", "wide"):
        run(EvalConfig(**given, **{name: True} if name != "narrow" else {}))
        printed[name] = capsys.readouterr().out
    assert max(map(len, printed["narrow"].splitlines()[1:-2])) <= 80
    assert "reused" not in printed["narrow"]
    for name in ("costs", "wide"):
        assert printed[name].startswith("3 of 3 digital runs and chips are reused from ")
    assert "Brain phantom on PCM chips: Dice" in printed["narrow"]
    assert "drop in 1 day" in printed["narrow"] and "Cost" not in printed["narrow"]
    assert "Brain phantom on PCM chips: Cost" in printed["costs"]
    for part in ("noise drop", "AVM", "missed", "Brain phantom on PCM chips: Cost", "utilisation"):
        assert part in printed["wide"]
    for text in printed.values():
        *_, folder, page = text.splitlines()
        assert folder.endswith(f"tables and figures: {tmp_path / 'run'}/")
        assert page == f"a page of them: analogmed report {tmp_path / 'run'}"
