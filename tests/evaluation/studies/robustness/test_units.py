import json
from dataclasses import replace

import pytest
import torch

from analogmed.analog import Hardware
from analogmed.config import CalibrationConfig, EngineConfig, Experiment, SweepConfig
from analogmed.evaluation.studies.robustness.units import Plan
from analogmed.execution.unit import canonical, key_of
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import file_digest
from analogmed.foundation.time_constants import DAY_S
from analogmed.training import load_checkpoint, save_checkpoint


@pytest.fixture
def experiment(tiny_task):
    return Experiment(task=tiny_task, sweep=SweepConfig(chips=2, times_s=(0.0, DAY_S), reads=2))


@pytest.fixture
def task(experiment):
    return experiment.task.load()


@pytest.fixture
def networks(tiny_digital, tiny_hwa):
    return [load_checkpoint(tiny_digital), load_checkpoint(tiny_hwa)]


def keys(experiment, task, checkpoint):
    plan = Plan(experiment, task, [checkpoint])
    return plan.digital(checkpoint).key, plan.chip(checkpoint, 0).key


def test_the_digital_run_comes_before_the_chips_of_each_network(experiment, task, networks):
    chips = {networks[0].path: 2, networks[1].path: 1}
    units = Plan(experiment, task, networks).units(chips)
    assert [(unit.checkpoint, unit.chip) for unit in units] == [
        (networks[0].path, None),
        (networks[0].path, 0),
        (networks[0].path, 1),
        (networks[1].path, None),
        (networks[1].path, 0),
    ]
    assert [unit.passes for unit in units] == [1, 4, 4, 1, 4]
    assert units[1].title == "unet digital, chip 0"
    assert len({unit.key for unit in units}) == len(units)


@pytest.mark.parametrize(
    "change",
    [
        {"hardware": Hardware(out_noise=0.05)},
        {"sweep": SweepConfig(chips=2, times_s=(0.0,), reads=2)},
        {"sweep": SweepConfig(chips=2, times_s=(0.0, DAY_S))},
        {"calibration": CalibrationConfig(images=3)},
        {"digital_layers": ("head",)},
        {"row_split": "channels"},
        {"backend": "torch"},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_setting_of_the_chip_changes_chips_and_leaves_the_digital_run(
    experiment, task, networks, change
):
    digital, chip = keys(experiment, task, networks[0])
    other_digital, other_chip = keys(replace(experiment, **change), task, networks[0])
    assert other_digital == digital
    assert other_chip != chip


@pytest.mark.parametrize(
    "change",
    [{"metrics": ("dice", "nsd")}, {"tolerance": 1.0}, {"batch_size": 4}, {"device": "cuda:0"}],
    ids=lambda change: next(iter(change)),
)
def test_a_setting_of_every_prediction_changes_every_unit(experiment, task, networks, change):
    before, after = (
        keys(e, task, networks[0]) for e in (experiment, replace(experiment, **change))
    )
    assert not set(before) & set(after)


def test_paths_names_chips_and_engine_change_no_unit(experiment, networks, tmp_path):
    first = networks[0]
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(first.path.read_bytes())
    other = replace(
        experiment,
        sweep=replace(experiment.sweep, chips=7),
        engine=EngineConfig(workers=3, threads=torch.get_num_threads()),
        store=str(tmp_path),
        out=tmp_path,
        name="other",
        device="cpu",
        task=replace(experiment.task, root=_moved(experiment.task.root, tmp_path / "data")),
    )
    assert keys(other, other.task.load(), load_checkpoint(moved)) == keys(
        experiment, experiment.task.load(), first
    )


def _moved(root, target):
    for path in root.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def test_other_weights_are_other_units(experiment, task, networks, tmp_path):
    first = load_checkpoint(networks[0].path)
    next(first.network.parameters()).data[0] += 1e-3
    path = save_checkpoint(tmp_path / "other.safetensors", first.network, first.info)
    assert not set(keys(experiment, task, networks[0])) & set(
        keys(experiment, task, load_checkpoint(path))
    )


def test_another_label_is_another_unit_even_at_the_same_size(experiment, networks, tmp_path):
    root = _moved(experiment.task.root, tmp_path / "data")
    moved = replace(experiment, task=replace(experiment.task, root=root))
    task = moved.task.load()
    before = keys(moved, task, networks[0])
    label = task.test[0].labels[-1]
    content = bytearray(label.read_bytes())
    content[-1] ^= 1
    label.write_bytes(bytes(content))
    assert not set(keys(moved, task, networks[0])) & set(before)


def test_an_image_for_calibration_belongs_to_chips_only(experiment, networks, tmp_path):
    root = _moved(experiment.task.root, tmp_path / "data")
    moved = replace(experiment, task=replace(experiment.task, root=root))
    task = moved.task.load()
    digital, chip = keys(moved, task, networks[0])
    image = task.train[0].images[0]
    image.write_bytes(image.read_bytes() + b"\0")
    other_digital, other_chip = keys(moved, task, networks[0])
    assert (other_digital == digital, other_chip == chip) == (True, False)


def test_a_case_whose_file_is_gone_is_told_by_path(experiment, networks, task, tmp_path):
    gone = tmp_path / "gone.tif"
    case = replace(task.test[0], images=(gone,))
    with pytest.raises(DataError, match=str(gone)):
        Plan(experiment, replace(task, test=(case,)), networks)


def test_a_key_is_the_hash_of_the_sorted_description(experiment, task, networks):
    unit = Plan(experiment, task, networks).chip(networks[0], 3)
    turned = dict(reversed(json.loads(canonical(unit.description)).items()))
    assert key_of(turned) == unit.key
    assert unit.description["chip"] == 3
    assert unit.description["checkpoint"] == file_digest(networks[0].path)
    assert str(networks[0].path.parent) not in canonical(unit.description)
    assert str(task.root) not in canonical(unit.description)
