import dataclasses

import pytest

from analogmed.analog.description.hardware import Hardware
from analogmed.analog.description.presets import DESCRIPTIONS, PRESETS
from analogmed.cli.main import main


def test_all_presets_are_listed_with_what_they_are(capsys):
    assert main(["presets"]) == 0
    printed = capsys.readouterr().out
    assert list(DESCRIPTIONS) == list(PRESETS)
    assert all(f"{name}: " in printed for name in PRESETS)
    assert all(len(line) <= 80 for line in printed.split("\n"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_shows_each_argument_with_its_value_and_its_meaning(name, capsys):
    assert main(["presets", name]) == 0
    lines = capsys.readouterr().out.split("\n")
    shown = dict(line.strip().split(" = ") for line in lines if " = " in line)
    assert set(shown) == {field.name for field in dataclasses.fields(Hardware)} - {"preset"}
    assert float(shown["out_noise"]) == PRESETS[name]["out_noise"]
    assert "standard deviation of the output noise" in " ".join(" ".join(lines).split())


def test_differences_are_those_from_pcm(capsys):
    assert main(["presets", "hermes", "--differences", "true"]) == 0
    printed = capsys.readouterr().out
    assert "tile_size = 256" in printed and "noise_model = hermes" in printed
    assert "out_noise" not in printed


def test_an_unknown_preset_is_refused_with_the_nearest(capsys):
    assert main(["presets", "hermse"]) == 2
    assert "did you mean 'hermes'" in capsys.readouterr().err
