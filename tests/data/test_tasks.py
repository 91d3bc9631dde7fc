import json
import pickle
import shutil

import nibabel as nib
import numpy as np
import pytest

from analogmed.data.datasets.dsb2018 import load_dsb2018
from analogmed.data.datasets.lgg import load_lgg
from analogmed.data.datasets.msd import load_msd
from analogmed.data.datasets.nifti_folder import load_brats
from analogmed.data.phantoms.write import write_phantom
from analogmed.data.settings import TaskConfig
from analogmed.data.splits import SHARES, check_leakage
from analogmed.data.tasks import cache_folder, load_task, task_names
from analogmed.foundation.errors import ConfigError, DataError, LeakageError

PLUGIN = """
from analogmed.data import load_lgg

def load(root, *, size=None, split_seed=0, colour="red"):
    task = load_lgg(root, name=f"mine-{colour}", size=size, split_seed=split_seed)
    return task

def load_any(root, **options):
    return load_lgg(root, name="+".join(sorted(options)))

number = 3
"""
ENTRY_POINTS = """
[analogmed.tasks]
mine = analogmed_test_plugin:load
any = analogmed_test_plugin:load_any
gone = analogmed_test_plugin:missing
number = analogmed_test_plugin:number
lgg = analogmed_test_plugin:load
spleen = analogmed_test_plugin:load
Task09_Spleen = analogmed_test_plugin:load
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANALOGMED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def brain(cache):
    """Root of a small phantom in the LGG layout."""
    return load_task("phantom_brain", phantom_patients=4, phantom_size=32).root.parent


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "plugin-1.0.dist-info").mkdir(parents=True)
    (site / "plugin-1.0.dist-info" / "METADATA").write_text("Name: plugin\nVersion: 1.0\n")
    (site / "plugin-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "analogmed_test_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(site)


@pytest.mark.parametrize(
    ("name", "channels", "spatial_dims", "unit", "window"),
    [
        ("phantom_brain", 3, 2, "px", (48, 48)),
        ("phantom_spleen", 1, 3, "mm", (16, 48, 48)),
        ("phantom_nuclei", 3, 2, "px", (48, 48)),
    ],
)
def test_phantom_is_written_once_and_read_by_the_real_loader(
    cache, name, channels, spatial_dims, unit, window
):
    task = load_task(name, phantom_patients=5, phantom_size=40)
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    again = load_task(name, phantom_patients=5, phantom_size=40)
    assert written == {p: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()}
    assert (again.train, again.validation, again.test) == (task.train, task.validation, task.test)
    assert (task.name, task.in_channels, task.spatial_dims) == (name, channels, spatial_dims)
    assert (task.spacing_unit, task.out_channels, task.window) == (unit, 1, window)
    labels = [task.read(case).label for case in (*task.train, *task.validation, *task.test)]
    assert len(labels) == 5
    assert any(label.any() for label in labels)


def test_phantom_seeds_lie_side_by_side(cache):
    first, second = (
        load_task("phantom_nuclei", phantom_seed=seed, phantom_patients=3, phantom_size=32)
        for seed in (0, 1)
    )
    assert first.root != second.root
    assert not np.array_equal(first.read(first.test[0]).image, second.read(second.test[0]).image)


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ANALOGMED_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / "home" / ".cache" / "analogmed"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "analogmed"
    monkeypatch.setenv("ANALOGMED_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_options_reach_the_loader(brain):
    task = load_task("lgg", brain, size=[16, 16], window=[48, 32])
    assert (task.name, task.window) == ("lgg", (48, 32))
    assert task.read(task.test[0]).image.shape[2:] == (16, 16)


def test_split_follows_seed_shares_and_file(brain, tmp_path):
    parts = {load_task("lgg", brain, split_seed=seed).test for seed in range(8)}
    assert len(parts) > 1
    everything = load_task("lgg", brain, shares=(0.0, 0.0, 1.0))
    assert (everything.train, len(everything.test)) == ((), 4)
    patients = [case.patient_id for case in everything.test]
    (tmp_path / "split.yaml").write_text(f"train: {patients[1:]}\ntest: {patients[:1]}\n")
    task = load_task("lgg", brain, split_file=tmp_path / "split.yaml")
    assert [case.patient_id for case in task.test] == patients[:1]
    check_leakage(task.train, task.validation, task.test)


@pytest.mark.parametrize("name", ["spleen", "Task09_Spleen"])
@pytest.mark.parametrize("below", ["", "Task09_Spleen"])
def test_decathlon_task_is_found_by_either_name_in_its_folder_or_above(cache, name, below):
    root = load_task("phantom_spleen", phantom_patients=3, phantom_size=32).root.parent
    task = load_task(name, root / below, spatial_dims=2, size=(32, 32))
    assert (task.name, task.root.name) == ("spleen", "Task09_Spleen")
    assert (task.spatial_dims, task.window) == (2, (32, 32))


def test_any_decathlon_folder_loads_under_its_own_name(cache):
    root = load_task("phantom_spleen", phantom_patients=3, phantom_size=32).root
    other = root.rename(root.with_name("Task77_Mine"))
    assert load_task("msd", other).name == "Task77_Mine"


def test_loaded_task_travels_to_a_worker(cache):
    task = load_task("phantom_spleen", phantom_patients=3, phantom_size=32)
    there = pickle.loads(pickle.dumps(task))
    np.testing.assert_array_equal(there.read(there.test[0]).image, task.read(task.test[0]).image)


@pytest.mark.parametrize(
    ("name", "near"),
    [("lgq", "lgg"), ("Task09_Splen", "Task09_Spleen"), ("phantom_brian", "phantom_brain")],
)
def test_misspelt_task_gets_the_nearest_name(name, near):
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        load_task(name)


def test_misspelt_option_gets_the_nearest_name(brain):
    with pytest.raises(ConfigError, match="'lgg': unknown option 'widnow'; did you mean 'window'"):
        load_task("lgg", brain, widnow=(8, 8))


def test_needed_options_are_listed(tmp_path):
    with pytest.raises(ConfigError, match="needs the options images, label, classes"):
        load_task("nifti", tmp_path)


@pytest.mark.parametrize("name", ["lgg", "dsb2018", "msd", "spleen", "brats"])
def test_missing_root_says_which_folder_and_where_the_data_come_from(tmp_path, name):
    for root in (None, tmp_path / "gone"):
        with pytest.raises(ConfigError, match=rf"{name}.*folder.*https?://") as caught:
            load_task(name, root)
        if root is not None:
            assert f"{root}: no such folder; check the path" in str(caught.value)


@pytest.mark.parametrize("load", [load_lgg, load_dsb2018, load_msd, load_brats])
def test_a_loader_of_its_own_refuses_a_folder_that_is_not_there(tmp_path, load):
    with pytest.raises(DataError, match="gone: no such folder; check the path"):
        load(tmp_path / "gone")


def test_dimensions_that_a_set_cannot_have_are_refused(brain):
    assert load_task("lgg", brain, spatial_dims=2).spatial_dims == 2
    with pytest.raises(ConfigError, match="'lgg' is 2D, not 3D"):
        load_task("lgg", brain, spatial_dims=3)


def test_names_hold_the_built_in_and_the_users_own(plugin):
    assert {"lgg", "dsb2018", "msd", "brats", "nifti", "spleen", "phantom_brain"} <= {*task_names()}
    assert {"mine", "any"} <= {*task_names()}


@pytest.mark.parametrize("name", ["lgg", "spleen", "Task09_Spleen"])
def test_a_plugin_of_a_built_in_name_is_refused(plugin, brain, name):
    with pytest.raises(ConfigError, match=f"task '{name}' is defined more than once") as raised:
        load_task(name, brain)
    assert "(analogmed itself, analogmed_test_plugin:load of plugin)" in str(raised.value)


def test_plugin_gets_the_settings_that_it_names(plugin, brain):
    assert load_task("mine", brain, colour="blue", size=(16, 16)).name == "mine-blue"
    with pytest.raises(ConfigError, match="did you mean 'colour'"):
        load_task("mine", brain, color="blue")
    with pytest.raises(ConfigError, match=r"task.shares: not a setting of task 'mine'"):
        load_task("mine", brain, shares=(0.5, 0.2, 0.3))


def test_plugin_with_free_options_gets_them_all(plugin, brain):
    assert load_task("any", brain, depth=3).name == "depth+shares+split_seed"


@pytest.mark.parametrize(
    ("name", "words"), [("gone", "cannot be loaded"), ("number", "not callable")]
)
def test_broken_plugin_is_named(plugin, name, words):
    with pytest.raises(ConfigError, match=f"task '{name}'.*{words}"):
        load_task(name)


def test_real_folders_load_by_name(shared_data):
    with pytest.warns(UserWarning, match=r"dataset\.json"):
        task = load_task("hippocampus", shared_data, labels=("Posterior",))
    assert (task.classes, task.out_channels) == (("Posterior",), 1)
    stored = np.asarray(nib.load(task.test[0].labels[0]).dataobj)
    np.testing.assert_array_equal(task.read(task.test[0]).label[0], stored.T == 2)
    assert len(load_task("lgg", shared_data / "lgg").train) == 6
    assert len(load_task("dsb2018", shared_data / "dsb2018").train) == 72


def test_one_scan_under_two_names_across_splits_is_refused(tmp_path):
    root = write_phantom("nuclei", tmp_path, n_patients=4, size=48)
    first, *_, last = sorted(path.name for path in root.iterdir() if path.is_dir())
    (image,) = (root / first / "images").iterdir()
    shutil.copy(image, next((root / last / "images").iterdir()))
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [first], "test": [last]}))
    with pytest.raises(LeakageError, match=rf"{first} \(train\) = {last} \(test\)") as raised:
        load_task("dsb2018", root, split_file=split)
    assert "task.split_file" in str(raised.value)
    split.write_text(json.dumps({"train": [], "test": [first, last]}))
    assert len(load_task("dsb2018", root, split_file=split).test) == 2


def test_the_text_of_a_task_and_of_a_sample_is_short(tiny_task):
    task = tiny_task.load()
    assert len(repr(task)) < 400 and f"name: {task.name}" in repr(task)
    assert f"{len({case.patient_id for case in task.train})} training" in task._repr_html_()
    sample = task.read(task.train[0])
    assert len(repr(sample)) < 400 and str(sample.image.shape) in repr(sample)


def test_loaders_split_as_the_settings_of_a_task_do():
    assert TaskConfig().shares == SHARES
