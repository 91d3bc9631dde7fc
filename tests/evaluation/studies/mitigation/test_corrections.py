from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from analogmed.analog import Chip, Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.config import EngineConfig, SweepConfig
from analogmed.evaluation.studies.mitigation import compute as mitigation_compute
from analogmed.evaluation.studies.mitigation.corrections import (
    batchnorm_of_chip,
    batchnorms,
    input_ranges_of_chip,
    ranged_layers,
)
from analogmed.evaluation.studies.mitigation.study import measure_mitigation
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig
from analogmed.foundation.errors import ConfigError, CoverageError
from analogmed.foundation.time_constants import DAY_S

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:the temperature ran")]


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))
    return layers.eval()


@pytest.fixture
def images():
    return torch.randn(6, 2, 9, 9, generator=torch.Generator().manual_seed(1))


def test_batchnorm_takes_the_statistics_of_the_images(network, images):
    seen = network[0](images).detach()
    with batchnorm_of_chip(network, network, [images]):
        assert network[1].running_mean == pytest.approx(seen.mean((0, 2, 3)))
        assert network[1].running_var == pytest.approx(seen.var((0, 2, 3)))
        normal = network[:2](images).detach()
        assert normal.mean((0, 2, 3)) == pytest.approx(torch.zeros(4), abs=1e-5)
    assert torch.equal(network[1].running_mean, torch.zeros(4))
    assert torch.equal(network[1].running_var, torch.ones(4))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 6])
def test_batchnorm_agrees_with_torchs_own_for_all_images_whatever_the_batches(
    network, images, batch_size
):
    """The images differ in their mean; a rest of one is a sixth of them, not half."""
    images = images + torch.arange(6.0).reshape(6, 1, 1, 1)
    own = nn.Sequential(network[0], nn.BatchNorm2d(4, momentum=1.0)).train()
    own(images)
    with batchnorm_of_chip(network, network, images.split(batch_size)):
        assert network[1].running_mean == pytest.approx(own[1].running_mean, abs=1e-5)
        assert network[1].running_var == pytest.approx(own[1].running_var, rel=1e-5)


def test_batchnorm_of_eight_dark_images_and_a_bright_one():
    """Nine images of 10 x 10: the mean is 1 and the squared deviation 8, of 900 values."""
    model = nn.Sequential(nn.BatchNorm2d(1)).eval()
    images = torch.zeros(9, 1, 10, 10)
    images[8] = 9.0
    with batchnorm_of_chip(model, model, images.split(8)):
        assert model[0].running_mean.item() == pytest.approx(1.0)
        assert model[0].running_var.item() == pytest.approx(8.0 * 900 / 899)


def test_batchnorm_of_a_single_value_is_refused(network):
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4)).eval()
    one_pixel = torch.zeros(1, 2, 1, 1)
    with pytest.raises(CoverageError, match="one value per channel"):
        batchnorm_of_chip(model, model, [one_pixel]).__enter__()
    with batchnorm_of_chip(model, model, [torch.cat([one_pixel, one_pixel + 1])]):
        pass


def test_batchnorm_undoes_a_shift_of_the_weights(network, images):
    with batchnorm_of_chip(network, network, [images]):
        expected = network(images).detach()
    with torch.no_grad():
        network[0].weight.mul_(0.5)
        network[0].bias.add_(0.3)
    with batchnorm_of_chip(network, network, [images]):
        assert torch.allclose(network(images), expected, atol=1e-3)


def test_input_ranges_follow_what_reaches_the_chips_layers(network, images):
    analog = calibrate(convert(network, rpu_config_of(Hardware())), [0.5 * images])
    chip = Chip(analog, seed=0)
    before = {n: la.input_range.detach().clone() for n, la in ranged_layers(analog).items()}
    with input_ranges_of_chip(analog, chip.at(DAY_S, 1), [images], 1.0):
        found = {n: la.input_range.detach().clone() for n, la in ranged_layers(analog).items()}
    assert found["0"].item() == pytest.approx(images.abs().max().item())
    assert found["3"].item() != before["3"].item()
    for name, layer in ranged_layers(analog).items():
        assert torch.equal(layer.input_range.detach(), before[name])


def test_what_a_network_does_not_have_cannot_be_corrected(images):
    plain = convert(nn.Sequential(nn.Conv2d(2, 1, 3)), rpu_config_of(Hardware("ideal")))
    assert batchnorms(plain) == []
    with pytest.raises(CoverageError, match="no BatchNorm"), batchnorm_of_chip(plain, plain, []):
        pass
    ranges = input_ranges_of_chip(plain, plain, [images], 1.0)
    with pytest.raises(CoverageError, match="no input ranges"), ranges:
        pass


def test_no_batch_changes_nothing(network):
    with pytest.raises(CoverageError, match="no batch"), batchnorm_of_chip(network, network, []):
        pass
    assert torch.equal(network[1].running_mean, torch.zeros(4))


@pytest.fixture(scope="module")
def config(tiny_task, tiny_digital, tmp_path_factory):
    return MitigationConfig(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        sweep=SweepConfig(chips=2, times_s=(0.0, 30 * DAY_S)),
        images=8,
        engine=EngineConfig(threads=1),
        out=tmp_path_factory.mktemp("mitigation"),
    )


@pytest.fixture(scope="module")
def found(config):
    return measure_mitigation(config)


def test_every_option_is_measured_on_every_chip_time_and_case(found, config):
    options = {"none", *config.options, "all"}
    assert set(found.table["option"]) == options
    assert len(found.table) == len(options) * 2 * 2 * 2 * 5
    names = {str(p.relative_to(config.out)) for p in config.out.rglob("[!.]*") if p.is_file()}
    units = {name for name in names if name.startswith("units/")}
    tables = {"mitigation.csv", "mitigation.parquet", "summary.csv", "figures/mitigation.png"}
    assert names - units == {"experiment.yaml", "environment.json", *tables}
    assert len(units) == 3  # costs, and two chips


def test_a_gain_is_paired_with_the_chips_it_is_over(found):
    table, summary = found.table, found.summary()
    table = table[(table["time_s"] > 0) & (table["metric"] == "nll")]
    means = table.groupby("option")["value"].mean()
    rows = summary[(summary["time_s"] > 0) & (summary["metric"] == "nll")].set_index("option")
    for option in ("batchnorm", "input_ranges", "temperature"):
        gain = means[option] - means["drift_compensation"]
        assert rows.loc[option, "gain"] == pytest.approx(gain)
    for option in ("drift_compensation", "all"):
        assert rows.loc[option, "gain"] == pytest.approx(means[option] - means["none"])
    assert pd.isna(rows.loc["none", "gain"])


def test_batchnorm_takes_fewer_images_at_once_where_memory_runs_out(config, monkeypatch, tmp_path):
    sizes = []

    @contextmanager
    def hungry(model, forward, batches):
        sizes.append(len(batches[0]))
        if sizes[-1] > 4:
            raise MemoryError
        yield

    monkeypatch.setattr(mitigation_compute, "batchnorm_of_chip", hungry)
    few = replace(config, options=("drift_compensation", "batchnorm"), out=tmp_path)
    few = replace(few, sweep=SweepConfig(chips=1, times_s=(0.0,)))
    with pytest.warns(UserWarning, match="out of memory; trying 4 images at once"):
        measure_mitigation(few)
    assert sizes == [8, 4]


def test_drift_compensation_gains_dice_after_a_month(found):
    rows = found.summary().set_index(["option", "metric", "time_s"])
    assert rows.loc[("drift_compensation", "dice", 30 * DAY_S), "gain"] > 0


def test_a_temperature_leaves_dice_as_it_was(found):
    dice = found.table[found.table["metric"] == "dice"]
    by_option = {name: rows["value"].to_numpy() for name, rows in dice.groupby("option")}
    assert (by_option["temperature"] == by_option["drift_compensation"]).all()


def test_costs_are_counted(found, tiny_task):
    costs = found.costs.set_index("option")
    task = tiny_task.load()
    assert costs.loc["none", ["images", "passes", "parameters"]].tolist() == [0, 0, 0]
    assert costs.loc["batchnorm", "images"] == 8
    assert costs.loc["temperature", "labelled_images"] == sum(
        len(task.read(case).label) for case in task.validation
    )
    assert costs.loc["temperature", "parameters"] == 1
    parts = costs.loc[["drift_compensation", "batchnorm", "input_ranges", "temperature"]]
    assert costs.loc["all", "parameters"] == parts["parameters"].sum()


def test_an_option_that_a_chip_does_not_have_is_left_out_by_name(config, tmp_path):
    dynamic = replace(
        config,
        hardware=Hardware("analognas"),
        options=("input_ranges",),
        sweep=SweepConfig(chips=1, times_s=(0.0,)),
        out=tmp_path,
    )
    with pytest.warns(UserWarning, match="unet: input_ranges is left out"):
        found = measure_mitigation(dynamic)
    assert set(found.table["option"]) == {"none", "drift_compensation"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": ()}, "options is empty"),
        ({"images": 0}, "images must be 1 or more"),
        ({"backend": "aihwkit"}, "analogmed's layers only"),
    ],
)
def test_settings_out_of_range_are_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)


@pytest.mark.usefixtures("found")
def test_a_page_shows_the_table_that_a_mitigation_run_writes(config, read_back):
    run = read_back(config.out)
    assert (run.kind, set(run.tables)) == ("mitigation", {"summary"})


@pytest.mark.usefixtures("found")
def test_an_interrupted_run_resumes_in_two_processes_to_the_same_bytes(config, check_resume):
    check_resume(measure_mitigation, config)
