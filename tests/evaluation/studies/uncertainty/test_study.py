import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analogmed.config import EngineConfig, SweepConfig
from analogmed.evaluation.studies.uncertainty.calibration import band
from analogmed.evaluation.studies.uncertainty.conformal import THRESHOLDS
from analogmed.evaluation.studies.uncertainty.settings import UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.study import measure_uncertainty
from analogmed.foundation.errors import ConfigError, DataError, LeakageError
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.properties import bounds_of
from analogmed.report.figures.maps import read_examples

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*mc_dropout is left out"),
    pytest.mark.filterwarnings("ignore:.*patients set the threshold"),
    pytest.mark.filterwarnings("ignore:the temperature ran"),
    pytest.mark.filterwarnings("ignore:.*was trained.*for another chip"),
]
TABLES = ("uncertainty.csv", "density.csv", "reliability.csv", "risk_coverage.csv", "conformal.csv")


@pytest.fixture(scope="module")
def config(tiny_task, tiny_digital, tiny_hwa, tmp_path_factory):
    return UncertaintyConfig(
        task=tiny_task,
        checkpoints=(tiny_digital, tiny_hwa),
        sweep=SweepConfig(chips=2, times_s=(0.0, DAY_S), reads=2),
        dropout=0.1,
        engine=EngineConfig(threads=1),
        out=tmp_path_factory.mktemp("uncertainty"),
    )


@pytest.fixture(scope="module")
def found(config):
    return measure_uncertainty(config)


@pytest.fixture(scope="module")
def summary(found):
    return pd.read_csv(found.config.folder / "summary.csv")


@pytest.fixture(scope="module")
def task(tiny_task):
    return tiny_task.load()


def values(table, **where):
    for name, value in where.items():
        table = table[table[name].isna() if value is None else table[name] == value]
    return table


def test_every_metric_of_the_summary_has_bounds(summary):
    assert [m for m in summary["metric"].unique() if not np.isfinite(bounds_of(m)[0])] == []


def test_the_run_folder_holds_tables_examples_and_figures(found, config):
    names = {str(p.relative_to(config.out)) for p in config.out.rglob("[!.]*") if p.is_file()}
    assert {name for name in names if not name.startswith("units/")} == {
        "experiment.yaml",
        "environment.json",
        "uncertainty.parquet",
        "examples.npz",
        *TABLES,
        *(f"{n}.csv" for n in ("summary", "comparison", "conformal_summary")),
        *(f"{n}.csv" for n in ("temperatures", "examples")),
        *(f"figures/{n}.png" for n in ("density", "reliability", "risk_coverage", "conformal")),
        "figures/maps_unet_t0.png",
        "figures/maps_unet_1_day.png",
    }


def test_tables_and_figures_of_an_earlier_run_are_removed(found, tmp_path):
    shutil.copytree(found.config.folder, tmp_path, dirs_exist_ok=True)
    no_examples = replace(found.examples, rows=[], arrays={})
    replace(found, temperatures=[], examples=no_examples).write(tmp_path)
    names = {path.stem for path in tmp_path.rglob("[!.]*") if path.is_file()}
    assert not names & {"temperatures", "examples", "maps_unet_t0", "maps_unet_1_day"}
    assert {"comparison", "density", "conformal_summary"} < names


def test_the_table_has_every_source_time_region_and_case(found, task):
    table = pd.read_parquet(found.config.folder / "uncertainty.parquet")
    sources = {
        s + t for s in ("deterministic", "chips", "mc_dropout") for t in ("", "+temperature")
    }
    assert set(table["source"]) == sources
    assert set(table["case"]) == {case.case_id for case in task.test}
    ece = values(table, metric="ece", source="chips")
    assert len(ece) == 2 * 2 * 2 * len(task.test)
    assert set(table["training"]) == {"digital", "hwa"}
    assert values(table, source="deterministic", time_s=None)["metric"].nunique() > 8
    assert "mean_variance" not in set(values(table, source="deterministic")["metric"])


def test_read_and_chip_variance_add_up(found):
    table = found.scores.table()
    chips = values(table, source="chips", region="image", training="digital")
    mean = chips.groupby("metric")["value"].mean()
    assert mean["mean_variance"] == pytest.approx(
        mean["mean_read_variance"] + mean["mean_chip_variance"], rel=1e-4
    )


def test_entropy_is_expected_entropy_and_mutual_information(found):
    chips = values(found.scores.table(), source="chips", region="band")
    wide = chips.pivot(index=["training", "time_s", "case"], columns="metric", values="value")
    both = wide["mean_expected_entropy"] + wide["mean_mutual_information"]
    assert both.to_numpy() == pytest.approx(wide["mean_entropy"].to_numpy(), rel=1e-4)


def test_densities_count_every_voxel_once(found, task):
    samples = [task.read(case) for case in task.test]
    sizes = {
        "image": sum(sample.label.size for sample in samples),
        "band": sum(band(sample.label, 5).sum() for sample in samples),
    }
    table = found.scores.density_table()
    keys = ["training", "source", "time_s", "region", "measure"]
    for key, rows in table.groupby(keys, dropna=False):
        assert rows["count"].sum() == sizes[key[3]]


def test_reliability_bins_hold_every_voxel_and_give_the_pooled_error(found, summary):
    table = found.scores.reliability_table()
    part = values(table, source="chips", time_s=0.0, region="band", training="hwa")
    gaps = (part["voxels"] * (part["confidence"] - part["accuracy"]).abs()).sum()
    expected = gaps / part["voxels"].sum()
    row = values(summary, metric="ece_pooled", source="chips", time_s=0.0, region="band")
    assert values(row, training="hwa")["estimate"].item() == pytest.approx(expected)


def test_the_summary_is_the_mean_over_cases_with_its_interval(found, summary):
    table = found.scores.table()
    where = {"source": "chips", "time_s": DAY_S, "region": "band", "training": "digital"}
    row = values(summary, **where, metric="nll").iloc[0]
    assert row["estimate"] == pytest.approx(values(table, **where, metric="nll")["value"].mean())
    assert row["low"] <= row["estimate"] <= row["high"]
    assert row["n_patients"] == 2


def test_the_comparison_is_paired_over_cases(found):
    table, comparison = found.scores.table(), found.comparison()
    where = {"source": "chips", "time_s": DAY_S, "region": "image", "metric": "mean_entropy"}
    row = values(comparison, **where).iloc[0]
    means = values(table, **where).groupby("training")["value"].mean()
    assert row["difference"] == pytest.approx(means["hwa"] - means["digital"])
    assert 0 < row["p_value"] <= 1


def test_a_temperature_lowers_the_likelihoods_loss_where_it_was_fitted(found):
    assert {(t["source"], t["training"]) for t in found.temperatures} == {
        (s, t) for s in ("deterministic", "chips", "mc_dropout") for t in ("digital", "hwa")
    }
    table = found.scores.table()
    plain = values(table, source="chips", metric="dice")["value"].to_numpy()
    assert (values(table, source="chips+temperature", metric="dice")["value"] == plain).all()


def test_too_few_patients_mark_every_voxel(found, task):
    table = pd.DataFrame(found.conformal)
    assert table["trivial"].all()
    assert (table["fnr"] == 0).all()
    assert (table["marked_share"] == 1).all()
    assert set(table["calibrated"]) == {"digital", "first", "each"}
    on_chip = table[table["time_s"].notna()]
    assert set(on_chip["chip"]) == {0, 1}
    assert set(on_chip["patient"]) == {case.patient_id for case in task.test}


def test_enough_patients_set_a_threshold(config, tmp_path):
    wide = replace(
        config,
        alpha=0.4,
        conformal_cases="leave_one_out",
        sources=("deterministic", "chips"),
        sweep=SweepConfig(chips=2, times_s=(0.0, DAY_S)),
        temperature=False,
        checkpoints=config.checkpoints[:1],
        out=tmp_path,
    )
    found = measure_uncertainty(wide)
    table = pd.DataFrame(found.conformal)
    assert (table["n_units"] == 2).all()
    assert not table["trivial"].any()
    assert table["threshold"].isin(THRESHOLDS).all()
    first = values(table, calibrated="first", time_s=0.0).drop(columns="calibrated")
    each = values(table, calibrated="each", time_s=0.0).drop(columns="calibrated")
    assert (first.to_numpy() == each.to_numpy()).all()
    summary = found.conformal_summary()
    row = values(summary, calibrated="each", time_s=DAY_S).iloc[0]
    assert row["fnr"] == pytest.approx(values(table, calibrated="each", time_s=DAY_S)["fnr"].mean())
    assert row["kept"] in ("yes", "no", "open")


def test_examples_are_read_without_pickle_and_lie_on_one_grid(found, config):
    arrays, index = read_examples(config.out)
    assert set(index["rank"]) == {"worst", "best"}
    assert set(index["source"]) == {"deterministic", "chips", "mc_dropout"}
    for name in index["name"]:
        for what in ("prediction", "entropy", "variance"):
            assert arrays[f"{name}_{what}"].shape == (32, 32)
    assert arrays["worst_image"].shape == (32, 32, 3)
    assert arrays["worst_reference"].any()


def test_damaged_examples_are_refused(found, config, tmp_path):
    shutil.copy(config.out / "examples.csv", tmp_path)
    (tmp_path / "examples.npz").write_bytes((config.out / "examples.npz").read_bytes()[:500])
    with pytest.raises(DataError, match="the examples cannot be read"):
        read_examples(tmp_path)
    np.savez(tmp_path / "examples.npz", pickled=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="the examples cannot be read"):
        read_examples(tmp_path)


def test_networks_of_one_model_and_training_are_an_ensemble(config, tiny_digital, tmp_path):
    twin = tmp_path / "twin.safetensors"
    shutil.copy(tiny_digital, twin)
    of_two = replace(
        config,
        checkpoints=(tiny_digital, twin),
        sources=("deterministic", "ensemble"),
        temperature=False,
        out=tmp_path / "run",
    )
    table = measure_uncertainty(of_two).scores.table()
    one, two = (values(table, source=s, metric="nll") for s in ("deterministic", "ensemble"))
    assert two["value"].to_numpy() == pytest.approx(one["value"].to_numpy())
    variance = values(table, source="ensemble", metric="mean_variance")["value"]
    assert (variance == 0).all()


def test_few_patients_are_told_beforehand(config, tmp_path):
    few = replace(config, sources=("deterministic",), temperature=False, out=tmp_path)
    with pytest.warns(UserWarning, match=r"1 patients set .* alpha 0.1 needs 9: every voxel"):
        measure_uncertainty(few)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ()}, "sources is empty"),
        ({"dropout": 1.0}, "dropout: expected a finite number at least 0 and below 1"),
        ({"alpha": 0.0}, "alpha: expected a finite number above 0 and below 1"),
        ({"bins": 0}, "bins must be 1 or more"),
        ({"margin": -1}, "margin must be 0 or more"),
        ({"profile": "hermes-1-phase"}, "computes no cost"),
    ],
)
def test_settings_out_of_range_are_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)


def test_a_folder_that_cannot_be_written_is_told_before_any_pass(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write to"):
        measure_uncertainty(replace(config, out=tmp_path / "file"))


def test_a_network_trained_on_test_patients_is_refused(config, tiny_task, tmp_path):
    other = replace(tiny_task, split_seed=3)
    with pytest.raises(LeakageError, match="was trained on"):
        measure_uncertainty(replace(config, task=other, out=tmp_path))


def test_a_page_shows_the_tables_that_an_uncertainty_run_writes(found, read_back):
    run = read_back(found.config.folder)
    assert run.kind == "uncertainty"
    shown = {"summary", "comparison", "density", "reliability", "risk_coverage"}
    assert set(run.tables) == shown | {"conformal_summary"}


def test_an_interrupted_run_resumes_in_two_processes_to_the_same_bytes(found, config, check_resume):
    check_resume(measure_uncertainty, config)
