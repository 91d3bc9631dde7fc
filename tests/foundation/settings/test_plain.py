from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.paths import read_settings
from analogmed.foundation.settings.plain import from_plain, to_plain, to_yaml
from analogmed.search.settings import SearchConfig
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.training import TrainConfig


@dataclass(frozen=True)
class Part:
    size: int = 1


@dataclass(frozen=True)
class Whole:
    share: float = 0.5
    name: Literal["a", "b"] = "a"
    on: bool = False
    sizes: tuple[int, ...] | None = None
    pair: tuple[int, float] = (1, 2.0)
    path: Path | None = None
    runs: dict[str, Path] = field(default_factory=dict)
    part: Part = Part()


def test_values_get_the_types_of_their_fields():
    given = {"share": 1, "name": "b", "on": True, "sizes": [1, 2], "pair": [3, 4], "path": "x/y"}
    found = from_plain(Whole, given | {"runs": {"a": "b"}, "part": {"size": 3}}, "file")
    assert found == Whole(1.0, "b", True, (1, 2), (3, 4.0), Path("x/y"), {"a": Path("b")}, Part(3))
    assert isinstance(found.share, float) and isinstance(found.pair[1], float)
    assert from_plain(Whole, {"sizes": None}, "file") == Whole()


def test_a_file_has_the_short_forms_and_times_of_the_command_line(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("{task: lgg, hardware: reram_cmo, sweep: {times_s: [t0, 1 day, 60]}}")
    found = read_settings(Experiment, path)
    assert (found.task.name, found.hardware.preset) == ("lgg", "reram_cmo")
    assert found.sweep.times_s == (0.0, 60.0, 86_400.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shar": 1}, "file: unknown key 'shar'; did you mean 'share'"),
        ({"share": "much"}, "file: share: expected float, got 'much'"),
        ({"share": True}, "file: share: expected float, got True"),
        ({"on": 1}, "file: on: expected bool, got 1"),
        ({"name": "c"}, "file: name: unknown value 'c'"),
        ({"sizes": [1, "x"]}, "file: sizes: expected"),
        ({"pair": [1]}, "file: pair: expected"),
        ({"part": {"size": 1.5}}, "file: part: size: expected int, got 1.5"),
        ({"part": 3}, "file: part must be a mapping"),
        ({"runs": ["a"]}, "file: runs: expected"),
    ],
)
def test_other_values_are_refused_by_name(given, message):
    with pytest.raises(ConfigError) as caught:
        from_plain(Whole, given, "file")
    assert message in str(caught.value)


@pytest.mark.parametrize("settings_class", [Experiment, TrainConfig, SearchConfig, SupernetConfig])
def test_settings_of_all_programs_come_back_from_yaml(settings_class, tmp_path):
    settings = settings_class(out=tmp_path / "run")
    path = tmp_path / "settings.yaml"
    path.write_text(to_yaml(settings))
    assert read_settings(settings_class, path) == settings
    assert from_plain(settings_class, to_plain(settings), "plain") == settings
    assert read_settings(settings_class, path, out=Path("other")).out == Path("other")
