from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from analogmed.analog import Hardware, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.config import CalibrationConfig, Experiment, SweepConfig
from analogmed.data import Case, Sample
from analogmed.evaluation.deploy import calibration_batches, make_analog
from analogmed.evaluation.session import Cases, Deployment
from analogmed.evaluation.studies.robustness.sweep import chip_table, run_unit
from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.foundation.time_constants import DAY_S
from analogmed.network.inference import to_classes
from analogmed.tables.results import to_table
from analogmed.training import load_checkpoint


@pytest.fixture
def experiment(tiny_task):
    return Experiment(task=tiny_task, sweep=SweepConfig(chips=2, times_s=(0.0, DAY_S), reads=2))


@pytest.fixture
def digital(tiny_digital):
    return load_checkpoint(tiny_digital)


@pytest.fixture
def hwa(tiny_hwa):
    return load_checkpoint(tiny_hwa)


def ranges_of(model):
    return {n: p.clone() for n, p in model.state_dict().items() if n.endswith("input_range")}


def same(ranges, others):
    return ranges.keys() == others.keys() and all(
        torch.equal(ranges[name], others[name]) for name in ranges
    )


def rows(unit, experiment):
    task = experiment.task.load()
    analog = None if unit.chip is None else make_analog(unit.checkpoint, experiment, task)
    return to_table(run_unit(unit, analog, Cases(task), experiment, lambda: None))


def test_the_digital_rows_are_the_networks_own_output(digital, experiment):
    table = rows(Deployment(digital, None), experiment)
    task = experiment.task.load()
    expected = []
    for case in task.test:
        sample = task.read(case)
        with torch.no_grad():
            pred = to_classes(digital.network(torch.from_numpy(sample.image))).numpy()
        expected.append(2 * (pred & sample.label).sum() / (pred.sum() + sample.label.sum()))
    assert table["case"].tolist() == [case.case_id for case in task.test]
    assert np.allclose(table["value"], expected, rtol=1e-6)
    assert (table["hardware"] == "digital").all()
    assert table[["chip", "time_s", "read"]].isna().all(axis=None)


def test_a_chip_has_a_row_for_each_time_read_case_class_and_metric(digital, experiment):
    experiment = replace(experiment, metrics=("dice", "nsd"))
    table = rows(Deployment(digital, 1), experiment)
    assert len(table) == 2 * 2 * 2 * 1 * 2
    address = ["time_s", "read", "case", "class", "metric"]
    assert not table.duplicated(address).any()
    assert set(table["hardware"]) == {"pcm"}
    assert set(table["chip"]) == {1}
    assert set(table["time_s"]) == {0.0, DAY_S}


def test_an_ideal_chip_computes_as_the_digital_network(digital, experiment):
    ideal = replace(experiment, hardware=Hardware("ideal"))
    on_chip, plain = rows(Deployment(digital, 0), ideal), rows(Deployment(digital, None), ideal)
    for _, part in on_chip.groupby(["time_s", "read"]):
        assert np.allclose(part["value"], plain["value"], atol=1e-3)


def test_the_table_of_a_network_is_its_digital_run_followed_by_all_chips(digital, experiment):
    experiment = replace(experiment, sweep=SweepConfig(chips=2, times_s=(DAY_S,)))
    parts = [rows(Deployment(digital, chip), experiment) for chip in (None, 0, 1)]
    cases = Cases(experiment.task.load())
    analog = make_analog(digital, experiment, cases.task)
    whole = chip_table(digital, analog, cases, experiment)
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True))
    chips = chip_table(digital, analog, cases, experiment, digital=False)
    pd.testing.assert_frame_equal(chips, pd.concat(parts[1:], ignore_index=True))


def test_every_case_is_counted(digital, experiment):
    task, counted = experiment.task.load(), []
    analog = make_analog(digital, experiment, task)
    unit = Deployment(digital, 0)
    run_unit(unit, analog, Cases(task), experiment, lambda: counted.append(1))
    assert len(counted) == 2 * 2 * len(task.test)


def test_rows_of_a_chip_do_not_depend_on_the_other_times_and_reads(digital, experiment):
    fewer = replace(experiment, sweep=SweepConfig(chips=1, times_s=(DAY_S,), reads=1))
    many, few = rows(Deployment(digital, 0), experiment), rows(Deployment(digital, 0), fewer)
    part = many[(many["time_s"] == DAY_S) & (many["read"] == 0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, few)


@pytest.mark.slow
def test_rows_of_a_case_do_not_depend_on_the_other_cases(digital, experiment):
    task = experiment.task.load()
    analog, unit = make_analog(digital, experiment, task), Deployment(digital, 0)

    def table_of(test):
        cases = Cases(replace(task, test=test))
        return to_table(run_unit(unit, analog, cases, experiment, lambda: None))

    together = table_of(task.test[::-1])
    for case in task.test:
        part = together[together["case"] == case.case_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, table_of((case,)))


@pytest.mark.slow
def test_chips_reads_and_times_differ(digital, experiment):
    first, second = (
        rows(Deployment(digital, 0), experiment),
        rows(Deployment(digital, 1), experiment),
    )
    values = [
        tuple(part["value"])
        for table in (first, second)
        for _, part in table.groupby(["time_s", "read"])
    ]
    assert len(set(values)) == len(values) == 8


def test_learned_input_ranges_are_used_on_the_hardware_they_were_learned_for(hwa, experiment):
    analog = make_analog(hwa, experiment, experiment.task.load())
    learned = {f"{name}.input_range": ranges for name, ranges in hwa.input_ranges.items()}
    assert same(ranges_of(analog), learned)


@pytest.mark.parametrize(
    "arguments",
    [
        {"out_noise": 0.05},
        {"adc_steps": 62},
        {"drift_scale": 0.0},
        {"drift_compensation": "none"},
        {"modifier_std": 0.1},
    ],
    ids=str,
)
def test_learned_input_ranges_stay_when_only_what_follows_the_input_changes(
    hwa, experiment, arguments
):
    experiment = replace(experiment, hardware=Hardware(**arguments))
    analog = make_analog(hwa, experiment, experiment.task.load())
    learned = {f"{name}.input_range": ranges for name, ranges in hwa.input_ranges.items()}
    assert same(ranges_of(analog), learned)


@pytest.mark.parametrize(
    "change",
    [
        {"hardware": Hardware(dac_steps=62)},
        {"hardware": Hardware(tile_size=64)},
        {"row_split": "channels"},
    ],
    ids=["input converter", "tiles", "row split"],
)
def test_ranges_are_calibrated_anew_behind_other_input_converters(hwa, experiment, change):
    calibration = CalibrationConfig(images=3, quantile=1.0)
    experiment = replace(experiment, calibration=calibration, **change)
    found = ranges_of(make_analog(hwa, experiment, experiment.task.load()))
    learned = {f"{name}.input_range": ranges for name, ranges in hwa.input_ranges.items()}
    assert found
    assert not any(torch.equal(found[name], learned[name]) for name in found)


def test_layers_keep_their_learned_ranges_when_another_one_stays_digital(hwa, experiment):
    last = [n for n, m in hwa.network.named_modules() if isinstance(m, torch.nn.Conv2d)][-1]
    analog = make_analog(hwa, replace(experiment, digital_layers=(last,)), experiment.task.load())
    learned = {f"{n}.input_range": ranges for n, ranges in hwa.input_ranges.items() if n != last}
    assert same(ranges_of(analog), learned)


def test_calibration_looks_at_as_many_training_images_as_asked_for(experiment):
    task = experiment.task.load()
    own = {sample.tobytes() for case in task.train for sample in task.read(case).image}
    for images in (1, 3, 5, 24, 100):
        asked = replace(experiment, calibration=CalibrationConfig(images=images))
        found = torch.cat(list(calibration_batches(asked, task)))
        assert min(images, 24) <= len(found) < images + len(task.train)
        assert {image.numpy().tobytes() for image in found} <= own


@pytest.mark.parametrize(("cases", "slices", "images"), [(40, 28, 32), (8, 28, 32), (5, 3, 32)])
def test_calibration_looks_at_all_depths_alike(experiment, cases, slices, images):
    task = experiment.task.load()
    depths = np.arange(slices, dtype=np.float32).reshape(-1, 1, 1, 1)
    volume = np.broadcast_to(depths, (slices, 3, 32, 32)).copy()
    sample = replace(task.read(task.train[0]), image=volume)
    task = replace(task, train=task.train[:1] * cases, read=lambda case: sample)
    asked = replace(experiment, calibration=CalibrationConfig(images=images))
    found = torch.cat(list(calibration_batches(asked, task)))[:, 0, 0, 0].numpy()
    thirds = np.histogram(found, bins=3, range=(-0.5, slices - 0.5))[0]
    assert thirds.min() >= thirds.max() - 2


def test_calibration_images_are_cropped_and_padded_to_the_window(experiment):
    task = replace(experiment.task.load(), window=(16, 48))
    for images in calibration_batches(experiment, task):
        assert images.shape[1:] == (3, 16, 48)
        assert (images[..., 32:] == 0).all()


def test_without_training_cases_calibration_says_that_it_takes_test_images(experiment):
    task = experiment.task.load()
    task = replace(task, train=(), test=task.test)
    with pytest.warns(UserWarning, match="phantom_brain has no training case"):
        assert list(calibration_batches(experiment, task))


def test_samples_are_read_once(experiment):
    task, read = experiment.task.load(), []

    def counting(case):
        read.append(case.case_id)
        return task.read(case)

    cases = Cases(replace(task, read=counting))
    first, second = list(cases), list(cases)
    assert len(cases) == len(first) == 2
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, True]
    assert read == [case.case_id for case in task.test]


@pytest.mark.parametrize("chip", [None, 0])
def test_a_network_that_puts_out_no_numbers_is_refused_with_the_case(digital, experiment, chip):
    last = [m for m in digital.network.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    task = experiment.task.load()
    analog = None if chip is None else make_analog(digital, experiment, task)
    if analog is not None:
        last = [m for m in analog.modules() if getattr(m, "bias", None) is not None][-1]
    with torch.no_grad():
        last.bias[:] = torch.nan
    with pytest.raises(NonFiniteError, match=rf"case {task.test[0].case_id}: .*NaN or Inf logits"):
        run_unit(Deployment(digital, chip), analog, Cases(task), experiment, lambda: None)


def test_an_image_with_nan_is_refused_with_the_case(digital, experiment):
    task = experiment.task.load()

    def read(case: Case) -> Sample:
        sample = task.read(case)
        image = sample.image.copy()
        image[0, 0, 0, 0] = np.nan
        return replace(sample, image=image)

    analog = make_analog(digital, experiment, task)
    cases = Cases(replace(task, read=read))
    for chip, network in ((None, None), (0, analog)):
        with pytest.raises(NonFiniteError, match=rf"case {task.test[0].case_id}: "):
            run_unit(Deployment(digital, chip), network, cases, experiment, lambda: None)


def test_a_time_that_the_noise_model_does_not_know_is_told(digital, experiment):
    reram = replace(experiment, hardware=Hardware("reram"))
    with pytest.raises(ConfigError, match="has no values at t0"):
        rows(Deployment(digital, 0), reram)


def test_the_digital_network_is_left_as_it_was(digital, experiment):
    before = {name: value.clone() for name, value in digital.network.state_dict().items()}
    rows(Deployment(digital, 0), experiment)
    after = digital.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    convert(digital.network, rpu_config_of(Hardware()))
