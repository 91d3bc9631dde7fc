from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analogmed.analog import Chip, Hardware
from analogmed.config import EngineConfig, SweepConfig
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.session import Deployment
from analogmed.evaluation.studies.robustness.sweep import run_unit
from analogmed.evaluation.studies.sensitivity.ablations import (
    AblationSetting,
    list_ablations,
    sources_of,
)
from analogmed.evaluation.studies.sensitivity.compute import (
    AblatedNetwork,
    layers_on_tiles,
)
from analogmed.evaluation.studies.sensitivity.ranking import rank
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.evaluation.studies.sensitivity.study import sensitivity
from analogmed.foundation.errors import ConfigError, CoverageError
from analogmed.foundation.time_constants import DAY_S
from analogmed.training import load_checkpoint

pytestmark = pytest.mark.slow

LOUD = Hardware(out_noise=0.2, prog_noise_scale=3.0)
STILL = Hardware(prog_noise_scale=0, read_noise_scale=0, drift_scale=0, out_noise=0)


@pytest.fixture(scope="module")
def config(tiny_task, tiny_digital, tmp_path_factory):
    return SensitivityConfig(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        hardware=LOUD,
        layers=("encoder1.*", "head"),
        sweep=SweepConfig(chips=2, times_s=(0.0, DAY_S)),
        engine=EngineConfig(threads=1),
        out=tmp_path_factory.mktemp("sensitivity"),
    )


@pytest.fixture(scope="module")
def found(config):
    return sensitivity(config)


@pytest.fixture(scope="module")
def checkpoint(tiny_digital):
    return load_checkpoint(tiny_digital)


def ablated(checkpoint, config):
    return AblatedNetwork(checkpoint, config, config.task.load())


def values(table, setting, subject=""):
    rows = table[(table["setting"] == setting) & (table["subject"] == subject)]
    return rows.sort_values(["chip", "time_s", "case"])["value"].to_numpy()


def nothing():
    return None


def test_the_table_has_every_setting_on_every_chip_time_and_case(found):
    layers = {"encoder1.conv1", "encoder1.conv2", "head"}
    sources = {"programming", "read", "drift", "DAC", "ADC", "output"}
    subjects = {name: set(rows["subject"]) for name, rows in found.table.groupby("setting")}
    assert subjects == {
        "digital": {""},
        "all_analog": {""},
        "no_noise": {""},
        "only_analog": layers,
        "only_digital": layers,
        "noise_alone": sources,
        "noise_all_but": sources,
    }
    settings = 2 + 2 * len(layers) + 2 * len(sources)
    assert len(found.table) == 2 + settings * 2 * 2 * 2


def test_the_run_folder_holds_tables_and_figures(found, config):
    names = {str(p.relative_to(config.out)) for p in config.out.rglob("[!.]*") if p.is_file()}
    assert {name for name in names if not name.startswith("units/")} == {
        "experiment.yaml",
        "environment.json",
        "results.csv",
        "results.parquet",
        "ranking.csv",
        "figures/layers.png",
        "figures/sources.png",
    }


def test_figures_of_an_earlier_run_are_removed(found, config, tmp_path):
    found.write(tmp_path)
    replace(found, config=replace(config, parts=("layers",))).write(tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["layers.png"]


def test_drops_and_effects_are_differences_of_mean_dice(found):
    ranking = found.ranking().set_index(["setting", "subject", "time_s"])
    table = found.table[(found.table["time_s"] == DAY_S) | (found.table["setting"] == "digital")]
    digital = values(table, "digital").mean()
    whole = values(table, "all_analog").mean()
    alone, without = values(table, "only_analog", "head"), values(table, "only_digital", "head")
    row = ranking.loc[("only_analog", "head", DAY_S)]
    assert row["drop"] == row["effect"] == pytest.approx(digital - alone.mean())
    row = ranking.loc[("only_digital", "head", DAY_S)]
    assert row["drop"] == pytest.approx(digital - without.mean())
    assert row["effect"] == pytest.approx(without.mean() - whole)
    assert row["effect_low"] <= row["effect"] <= row["effect_high"]


def test_structures_that_are_not_there_change_no_drop(found):
    table, whole = found.table.copy(), found.ranking().set_index(["setting", "subject", "time_s"])
    extra = table[table["case"] == table["case"].iloc[0]].assign(case="empty", patient="empty")
    digital = extra["setting"] == "digital"
    extra = extra.assign(
        value=np.where(digital, np.nan, 0.0),
        note=np.where(digital, "both empty", "spurious structure"),
    )
    more = rank(pd.concat([table, extra])).set_index(["setting", "subject", "time_s"])
    pd.testing.assert_series_equal(more["drop"], whole["drop"])


def test_the_largest_effect_has_the_first_rank(found):
    ranking = found.ranking()
    for _, rows in ranking[ranking["subject"] != ""].groupby(["setting", "time_s"]):
        effects = rows.sort_values("rank")["effect"]
        assert sorted(rows["rank"]) == list(range(1, len(rows) + 1))
        assert effects.is_monotonic_decreasing
    assert ranking.loc[ranking["subject"] == "", "rank"].isna().all()


def test_looking_at_fewer_layers_changes_no_row(found, config, tmp_path):
    fewer = replace(config, layers=("head",), parts=("layers",), out=tmp_path)
    table = sensitivity(fewer).table
    for setting in ("only_analog", "only_digital"):
        expected = values(found.table, setting, "head")
        assert values(table, setting, "head").tolist() == expected.tolist()


def test_all_layers_analog_is_the_chip_of_an_evaluation(checkpoint, config):
    network = ablated(checkpoint, config)
    setting = AblationSetting("all_analog", "", config.hardware)
    found = [row for chip in range(2) for row in network.run_chip(chip, (setting,), nothing)]
    analog = make_analog(checkpoint, config, network.task)
    expected = [
        row["value"]
        for chip in range(2)
        for row in run_unit(Deployment(checkpoint, chip), analog, network.cases, config, nothing)
    ]
    assert [row["value"] for row in found] == expected


def test_layers_left_digital_compute_as_in_a_network_converted_without_them(checkpoint, config):
    still = replace(config, hardware=STILL, sweep=SweepConfig(chips=1, times_s=(0.0,)))
    network = ablated(checkpoint, still)
    layers, _ = layers_on_tiles(checkpoint, still, network.task)
    digital = frozenset(layers) - {"encoder1.conv2", "decoder1.conv1"}
    mixed = make_analog(checkpoint, replace(still, digital_layers=tuple(digital)), network.task)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = Chip(mixed, seed=0).at(0.0)(images)
    analog = network._analog
    reading = Chip(analog, seed=0).at(0.0)
    with network._digital_in(analog, digital):
        logits = reading.without(digital)(images)
    assert torch.allclose(logits, expected, atol=1e-4)
    assert not torch.allclose(reading(images), expected, atol=1e-3)


def test_a_layer_registered_twice_is_digital_at_both_places(checkpoint, config):
    network = ablated(checkpoint, config)
    analog = network._analog
    analog.add_module("again", analog.get_submodule("head"))
    with network._digital_in(analog, frozenset({"head"})):
        assert type(analog.get_submodule("again")) is type(analog.get_submodule("head"))
        assert type(analog.get_submodule("again")) is nn.Conv2d
    assert analog.get_submodule("again") is analog.get_submodule("head")
    assert type(analog.get_submodule("head")) is not nn.Conv2d


def test_a_source_alone_is_the_chip_with_all_others_off(config):
    by_name = {
        (s.name, s.subject): s.hardware for s in list_ablations(config, ["encoder1.a", "head"])
    }
    drift = by_name["noise_alone", "drift"]
    assert (drift.drift_scale, drift.prog_noise_scale, drift.read_noise_scale) == (1.0, 0, 0)
    assert (drift.dac_steps, drift.adc_steps, drift.out_noise) == (0, 0, 0)
    without = by_name["noise_all_but", "drift"]
    assert without == replace(config.hardware, drift_scale=0)
    assert by_name["no_noise", ""] == replace(drift, drift_scale=0)


def test_sources_that_a_chip_does_not_have_are_not_looked_at():
    assert sources_of(STILL) == ["DAC", "ADC"]
    assert sources_of(Hardware("reram")) == ["programming", "DAC", "ADC", "output"]
    assert "weight" in sources_of(Hardware(weight_noise="additive", weight_noise_std=0.01))


def test_a_chip_without_noise_is_refused():
    with pytest.raises(ConfigError, match="hardware 'ideal' has none of the noise sources"):
        sources_of(Hardware("ideal"))


def test_the_only_layer_of_a_network_is_not_left_digital(config):
    settings = list_ablations(replace(config, layers=(), parts=("layers",)), ["head"])
    assert [setting.name for setting in settings] == ["all_analog", "only_analog"]


def test_an_unknown_layer_is_refused_with_the_nearest(config):
    with pytest.raises(ConfigError, match=r"called 'haed'; did you mean 'head'"):
        list_ablations(replace(config, layers=("haed",)), ["encoder1.conv1", "head"])


def test_a_network_without_analog_layers_is_refused(config, tmp_path):
    with pytest.raises(CoverageError, match="no layer that can be put on a tile"):
        sensitivity(replace(config, digital_layers=("*",), out=tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": (Path("a"), Path("b"))}, "expected one network"),
        ({"backend": "aihwkit"}, "backend"),
        ({"every_nth_slice": 0}, "every_nth_slice must be 1 or more, got 0"),
        ({"parts": ()}, "parts is empty"),
        ({"profile": "alpine"}, "computes no cost"),
        ({"sweep": SweepConfig(width=0.1)}, "sweep.width: only eval adds chips"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        SensitivityConfig(**changes)


def test_another_metric_than_the_primary_one_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match="metrics: expected dice only, the primary metric of pha"):
        sensitivity(replace(config, metrics=("hd95",), out=tmp_path))


def test_only_every_nth_slice_is_looked_at(checkpoint, config):
    whole = ablated(checkpoint, config).cases
    thin = ablated(checkpoint, replace(config, every_nth_slice=3)).cases
    for one, other, again in zip(whole, thin, thin, strict=True):
        assert np.array_equal(other.image, one.image[::3])
        assert np.array_equal(again.label, one.label[::3])


def test_a_ranking_read_from_a_file_is_the_ranking(found, config):
    written = pd.read_csv(config.out / "ranking.csv").fillna({"subject": ""})
    assert written["effect"].tolist() == found.ranking()["effect"].tolist()


@pytest.mark.usefixtures("found")
def test_a_page_shows_the_table_that_a_sensitivity_run_writes(config, read_back):
    run = read_back(config.out)
    assert (run.kind, set(run.tables)) == ("sensitivity", {"ranking"})


@pytest.mark.usefixtures("found")
def test_an_interrupted_run_resumes_in_two_processes_to_the_same_bytes(config, check_resume):
    check_resume(sensitivity, config)
