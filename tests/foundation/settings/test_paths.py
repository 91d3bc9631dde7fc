"""Relative paths in files of settings are relative to the file."""

import os
from pathlib import Path

import pytest
import yaml

from analogmed.cli.parse import parse
from analogmed.config import Experiment, TaskConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.paths import read_settings, write_settings
from analogmed.search.settings import SearchConfig
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.training import TrainConfig

CONTENT = """
task: {name: nifti, root: ../data, split_file: split.yaml, options: {label: a/b}}
checkpoints: [nets/a.safetensors, /abs/b.safetensors]
factories: ['my_nets:unet', 'bundle:nets/bundle']
profile: mine.yaml
store: units
out: runs/x
name: mine.yaml
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with settings in a folder of their own; the tests run in another one."""
    (tmp_path / "project" / "configs").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "project" / "configs" / "eval.yaml").write_text(CONTENT)
    return tmp_path / "project"


def test_paths_in_a_file_are_relative_to_it(project):
    found = parse(Experiment, ["--config", "../project/configs/eval.yaml"], prog="eval")
    configs = project / "configs"
    assert found.task.root == project / "data"
    assert found.task.split_file == configs / "split.yaml"
    assert found.checkpoints == (configs / "nets/a.safetensors", Path("/abs/b.safetensors"))
    assert found.factories == ("my_nets:unet", f"bundle:{configs}/nets/bundle")
    assert found.profile == str(configs / "mine.yaml")


def test_outputs_names_and_options_of_a_file_are_taken_as_they_are(project):
    found = parse(Experiment, ["--config", "../project/configs/eval.yaml"], prog="eval")
    assert (found.out, found.store, found.name) == (Path("runs/x"), "units", "mine.yaml")
    assert found.task.options == {"label": "a/b"}


@pytest.mark.parametrize("model", ["bundle:../unet", "{name: 'bundle:../unet'}"])
def test_a_bundle_is_relative_to_the_file_in_both_forms_of_the_setting(project, model):
    (project / "configs" / "train.yaml").write_text(f"model: {model}")
    found = parse(TrainConfig, ["--config", "../project/configs/train.yaml"], prog="train")
    assert found.model.name == f"bundle:{project}/unet"


def test_absolute_paths_stay_so_that_a_training_resumes_from_its_own_settings(project, monkeypatch):
    monkeypatch.chdir(project)
    settings = TrainConfig(task=TaskConfig("nifti", root=project / "data"))
    write_settings(project / "training.yaml", settings)
    assert read_settings(TrainConfig, "training.yaml").task.root == project / "data"


def test_paths_on_the_command_line_are_relative_to_the_working_directory(project):
    words = ["--config", "../project/configs/eval.yaml", "--task.root", "here", "--profile=p.yaml"]
    found = parse(Experiment, words, prog="eval")
    assert (found.task.root, found.profile) == (Path("here"), "p.yaml")


def test_paths_below_the_working_directory_stay_short(project, monkeypatch):
    monkeypatch.chdir(project)
    found = parse(Experiment, ["--config", "configs/eval.yaml"], prog="eval")
    assert found.task.root == Path("data")
    assert found.checkpoints[0] == Path("configs/nets/a.safetensors")


def test_a_file_of_one_section_has_its_own_folder(project):
    (project / "task.yaml").write_text("{name: nifti, root: data}")
    words = ["--config", "../project/configs/eval.yaml", "--task", "../project/task.yaml"]
    assert parse(Experiment, words, prog="eval").task.root == project / "data"


def test_a_placement_of_a_file_is_found_next_to_it(project):
    (project / "placement.yaml").write_text("digital_layers: [head, 'up*']")
    (project / "eval.yaml").write_text("digital_layers: [placement.yaml, first]")
    found = parse(Experiment, ["--config", "../project/eval.yaml"], prog="eval")
    assert found.digital_layers == ("head", "up*", "first")


def test_paths_in_mappings_lists_and_several_tasks_are_relative_to_the_file(project):
    (project / "search.yaml").write_text("supernets: {brain: runs/s}")
    found = parse(SearchConfig, ["--config", "../project/search.yaml"], prog="search")
    assert found.supernets == {"brain": project / "runs/s"}
    (project / "supernet.yaml").write_text("more_tasks: [{name: lgg, root: data}]")
    several = parse(SupernetConfig, ["--config", "../project/supernet.yaml"], prog="supernet")
    assert several.more_tasks[0].root == project / "data"


def test_a_pipe_of_the_shell_has_no_folder(project):
    read, write = os.pipe()
    os.write(write, b"task: {name: lgg, root: data}")
    os.close(write)
    found = parse(Experiment, ["--config", f"/dev/fd/{read}"], prog="eval")
    os.close(read)
    assert found.task.root == Path("data")


def test_settings_of_a_run_repeat_it_from_any_folder(project, monkeypatch):
    run = project / "runs" / "eval"
    settings = Experiment(
        task=TaskConfig("lgg", root=Path("../data")),
        checkpoints=(Path("a.safetensors"), Path("/abs/b.safetensors")),
        out=Path("../project/runs/eval"),
    )
    write_settings(run / "experiment.yaml", settings)
    written = yaml.safe_load((run / "experiment.yaml").read_text())
    assert written["task"]["root"] == "../../../data"
    assert written["checkpoints"] == ["../../../elsewhere/a.safetensors", "/abs/b.safetensors"]
    elsewhere = Path.cwd()
    for folder in (project, run, elsewhere):
        monkeypatch.chdir(folder)
        found = read_settings(Experiment, os.path.relpath(run / "experiment.yaml"))
        assert found.task.root.resolve() == project.parent / "data"
        assert found.checkpoints[0].resolve() == elsewhere / "a.safetensors"


def test_a_run_folder_behind_a_link_is_read_through_the_link_and_directly(project):
    (project / "disk").mkdir()
    (project / "run").symlink_to(project / "disk")
    settings = TrainConfig(init=Path("start.safetensors"), out=project / "run")
    write_settings(project / "run" / "training.yaml", settings)
    for folder in ("run", "disk"):
        found = read_settings(TrainConfig, project / folder / "training.yaml")
        assert found.init == Path("start.safetensors")


def test_a_settings_file_of_the_package_is_found_from_any_folder(project):
    found = parse(TrainConfig, ["--config", "configs/lgg-train.yaml"], prog="train")
    assert (found.task.name, found.model.options) == ("lgg", {"features": 16})
    with pytest.raises(ConfigError, match=r"cannot read configs/lgg\.yaml"):
        parse(TrainConfig, ["--config", "configs/lgg.yaml"], prog="train")


def test_an_own_settings_file_hides_that_of_the_package(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "configs" / "lgg-train.yaml").write_text("{task: {name: mine}}")
    found = parse(TrainConfig, ["--config", "configs/lgg-train.yaml"], prog="train")
    assert found.task.name == "mine"
