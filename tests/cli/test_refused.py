"""Commands that are refused before they have computed anything leave nothing that they created."""

import pytest

from analogmed.cli.commands import COMMANDS
from analogmed.cli.main import main
from analogmed.execution.run_folder import locked
from analogmed.foundation.errors import ConfigError

MISSPELT = ["--task.options.phantom_patient", "3"]
UNDER_OUT = {
    "demo": ["--patients", "1000000"],
    "eval": MISSPELT,
    "sensitivity layers": MISSPELT,
    "sensitivity placement": [*MISSPELT, "--digital_gmac_per_s", "10"],
    "uncertainty measure": MISSPELT,
    "uncertainty mitigation": MISSPELT,
    "report": ["empty"],
    "train": MISSPELT,
    "search run": MISSPELT,
    "search supernet": MISSPELT,
    "search importance": ["--supernets", "nowhere"],
    "hardware map": ["--digital_layers", "no_such_layer"],
    "hardware measure": ["--model", "unet(depht=2)"],
}
WITHOUT = {
    "presets", "models import", "models export", "data verify", "data phantom", "data download",
}  # fmt: skip
"""Commands that have no run folder."""


def entries(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_every_command_with_a_run_folder_is_tried():
    assert UNDER_OUT.keys() == COMMANDS.keys() - WITHOUT


@pytest.mark.parametrize("name", UNDER_OUT)
def test_a_refused_command_leaves_nothing(name, here, capsys):
    assert main([*name.split(), *UNDER_OUT[name], "--out", "runs/mine"]) in (1, 2)
    assert capsys.readouterr().err.startswith("error: ")
    assert entries(here) == {"empty"}


@pytest.mark.parametrize("name", ["eval", "train", "search run", "hardware map"])
def test_a_refused_command_leaves_a_folder_of_the_user_as_it_was(name, here, capsys):
    kept = here / "mine" / "units" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("of the user")
    before = entries(here)
    assert main([*name.split(), *UNDER_OUT[name], "--out", "mine"]) == 2
    assert entries(here) == before


def test_a_store_elsewhere_is_not_created_either(here, capsys):
    assert main(["eval", *MISSPELT, "--store", "elsewhere/units"]) == 2
    assert entries(here) == {"empty"}


def test_results_stay_with_the_list_of_files_after_an_error(tmp_path):
    with pytest.raises(ConfigError), locked(tmp_path / "run") as folder:
        (folder / "units").mkdir()
        (folder / "units" / "first.parquet").write_bytes(b"result")
        raise ConfigError("the second one fails")
    assert entries(folder) == {".analogmed-lock", "units", "units/first.parquet"}
