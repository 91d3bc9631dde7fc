import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from torch.nn.utils.parametrizations import weight_norm

from analogmed.analog import Hardware
from analogmed.cli.parse import parse
from analogmed.config import Experiment, SweepConfig, TaskConfig, to_yaml
from analogmed.evaluation import evaluate
from analogmed.evaluation.costs import cost_of
from analogmed.evaluation.preparation import checkpoint_paths
from analogmed.foundation.errors import (
    CheckpointError,
    ConfigError,
    CoverageError,
    LeakageError,
)
from analogmed.foundation.time_constants import DAY_S
from analogmed.hardware import estimate, load_profile, map_tiles
from analogmed.report import render_evaluation, render_summary, to_markdown
from analogmed.report.kinds.evaluation_findings import findings_of_evaluation
from analogmed.report.runs import read_run
from analogmed.tables.estimates import KEPT_START
from analogmed.tables.results import COLUMNS
from analogmed.training import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow

TABLES = ("results.parquet", "results.csv", "summary.csv")
RUN = ["task", "model", "training"]
ADDRESS = ["model", "training", "chip", "time_s", "read", "case", "class", "metric"]


@pytest.fixture(scope="module")
def experiment(tiny_task, tiny_digital, tiny_hwa, tmp_path_factory):
    return Experiment(
        task=tiny_task,
        checkpoints=(tiny_digital, tiny_hwa),
        sweep=SweepConfig(chips=2, times_s=(0.0, DAY_S)),
        out=tmp_path_factory.mktemp("run"),
    )


@pytest.fixture(scope="module")
def results(experiment):
    return evaluate(experiment)


def tables_of(experiment, folder, **changes):
    evaluate(replace(experiment, out=folder, **changes))
    return {name: (folder / name).read_bytes() for name in TABLES}


def rows_of(table, **where):
    for column, value in where.items():
        table = table[table[column].isin(value if isinstance(value, list) else [value])]
    return table.sort_values(ADDRESS).reset_index(drop=True)


def test_the_run_folder_holds_all_that_the_design_lists(results, experiment):
    files = [path for path in experiment.out.rglob("[!.]*") if path.is_file()]
    found = {str(path.relative_to(experiment.out)) for path in files}
    units = {name for name in found if name.startswith("units/")}
    assert (len(units), results.units) == (2 * 3, 2 * 3)
    examples = {name for name in found if name.startswith("examples/")}
    assert examples
    assert found - units - examples == {
        "experiment.yaml",
        "environment.json",
        *TABLES,
        "chip_losses.csv",
        "curves.csv",
        "comparison.csv",
        "time_to_failure.csv",
        "figures/dice_over_time.png",
        "figures/drop_per_model.png",
    }


def test_a_smaller_run_in_the_same_folder_leaves_nothing_of_the_larger_one(
    results, experiment, tmp_path
):
    shutil.copytree(experiment.out, tmp_path / "run")
    alone = replace(experiment, checkpoints=experiment.checkpoints[:1], examples=0)
    evaluate(replace(alone, out=tmp_path / "run", sweep=SweepConfig(chips=2, times_s=(0.0,))))
    assert not (tmp_path / "run" / "comparison.csv").exists()
    assert not list((tmp_path / "run" / "examples").iterdir())
    assert set(pd.read_csv(tmp_path / "run" / "summary.csv")["training"]) == {"digital"}


def test_networks_that_were_run_on_other_cases_are_not_compared_and_that_is_told(results):
    table, left_out = results.table, results.table["case"].iloc[0]
    fewer = table[(table["training"] != "hwa") | (table["case"] != left_out)]
    with pytest.warns(UserWarning, match=r"networks are not compared: .*other cases|same cases"):
        assert replace(results, table=fewer).comparison().empty


def test_the_table_has_a_row_for_everything_that_was_run(results, experiment):
    table = results.table
    assert list(table) == list(COLUMNS)
    assert len(table) == 2 * 2 + 2 * 2 * 2 * 2
    assert not table.duplicated(["hardware", *ADDRESS]).any()
    assert table["value"].between(0, 1).all()
    pd.testing.assert_frame_equal(pd.read_parquet(experiment.out / "results.parquet"), table)


def test_the_summary_has_a_row_for_each_network_with_its_cost(results, experiment):
    summary = results.summary()
    assert summary[RUN].values.tolist() == [
        ["phantom_brain", "unet", "digital"],
        ["phantom_brain", "unet", "hwa"],
    ]
    network = load_checkpoint(experiment.checkpoints[0]).network
    assert (summary["parameters"] == sum(p.numel() for p in network.parameters())).all()
    assert (summary["analog_weight_share"] == 1.0).all()
    written = pd.read_csv(experiment.out / "summary.csv")
    assert list(written) == list(summary)
    assert written["dice_1d"].tolist() == summary["dice_1d"].tolist()


@pytest.mark.filterwarnings("ignore:.*was trained for another chip")
def test_a_kept_start_and_a_changed_chip_are_noted_everywhere(experiment, tmp_path):
    trained = load_checkpoint(experiment.checkpoints[1])
    kept = tmp_path / "kept.safetensors"
    save_checkpoint(kept, trained.network, replace(trained.info, keeps_start=True))
    sweep = SweepConfig(chips=1, times_s=(0.0,))
    once = replace(experiment, checkpoints=(experiment.checkpoints[0], kept), sweep=sweep)
    once = replace(once, hardware=replace(once.hardware, out_noise=0.1))
    results = evaluate(replace(once, out=tmp_path / "run", examples=0))
    summary = results.summary()
    assert [KEPT_START in note for note in summary["note"]] == [False, True]
    assert pd.read_csv(tmp_path / "run" / "summary.csv")["note"].str.contains(KEPT_START).sum() == 1
    for text in (render_summary(summary), render_evaluation(summary, results.curves())):
        assert KEPT_START in " ".join(text.split())
    run = read_run(tmp_path / "run")
    said = " ".join(findings_of_evaluation(run))
    assert f"U-Net, hardware-aware: {KEPT_START}." in said
    assert "The chips differ from their preset: out_noise 0.1." in said


def test_without_a_profile_there_are_tiles_but_no_time_and_energy(results):
    summary = results.summary()
    assert {"tiles", "utilisation_per_tile"} <= set(summary)
    assert not [name for name in summary if name.startswith(("estimated_", "profile"))]


def test_a_profile_adds_estimates_on_tiles_of_its_own_size(experiment, tmp_path):
    once = replace(
        experiment,
        checkpoints=experiment.checkpoints[:1],
        sweep=SweepConfig(chips=1, times_s=(0.0,)),
        profile="hermes-1-phase",
        out=tmp_path,
    )
    results = evaluate(once)
    row = results.summary().iloc[0]
    network = load_checkpoint(once.checkpoints[0]).network
    mapped = map_tiles(network, (1, 3, 32, 32), 256, row_split="even")
    cost = estimate(mapped, load_profile("hermes-1-phase"))
    assert (row["profile"], row["profile_level"]) == ("hermes-1-phase", "mvm_only")
    assert row["profile_tile_size"] == "256 x 256"
    assert row["estimated_tiles"] == cost.tiles
    assert row["estimated_latency_ms"] == pytest.approx(1e3 * cost.latency_s)
    assert row["estimated_energy_mj"] == pytest.approx(1e3 * cost.stack_j(1))
    assert row["estimated_throughput_per_s"] == pytest.approx(cost.throughput_per_s)
    text = render_summary(results.summary())
    assert "Brain phantom on PCM chips: Estimated time and energy" in text
    assert max(map(len, text.splitlines())) <= 120
    for part in ("hermes-1-phase", "mvm_only", "256 x 256"):
        assert part in text
        assert part.replace("_", "\\_") in to_markdown(results.summary())


def test_what_conversion_leaves_digital_takes_no_tiles(experiment):
    checkpoint, task = load_checkpoint(experiment.checkpoints[0]), experiment.task.load()
    whole = cost_of(checkpoint, experiment, task)
    weight_norm(checkpoint.network.head)
    with pytest.warns(UserWarning, match="head stays digital: its weight is parametrised"):
        without = cost_of(checkpoint, experiment, task)
    assert without["tiles"] == whole["tiles"] - 1


def test_the_digital_dice_of_the_summary_is_the_mean_over_the_digital_rows(results):
    digital = rows_of(results.table, hardware="digital", training="digital")
    assert results.summary().loc[0, "dice_digital"] == pytest.approx(digital["value"].mean())


def test_another_seed_gives_other_chips_but_the_same_digital_rows(results, experiment, tmp_path):
    other = evaluate(replace(experiment, seed=1, out=tmp_path)).table
    pd.testing.assert_frame_equal(
        rows_of(other, hardware="digital"), rows_of(results.table, hardware="digital")
    )
    own, others = rows_of(results.table, hardware="pcm"), rows_of(other, hardware="pcm")
    for chip in (0, 1):
        part, other_part = rows_of(own, chip=chip), rows_of(others, chip=chip)
        assert part["value"].tolist() != other_part["value"].tolist()


def test_the_order_of_the_networks_changes_no_row(results, experiment, tmp_path):
    turned = replace(experiment, checkpoints=experiment.checkpoints[::-1], out=tmp_path)
    pd.testing.assert_frame_equal(rows_of(evaluate(turned).table), rows_of(results.table))


def test_a_network_alone_has_the_rows_that_it_has_among_others(results, experiment, tmp_path):
    alone = evaluate(replace(experiment, checkpoints=experiment.checkpoints[1:], out=tmp_path))
    pd.testing.assert_frame_equal(rows_of(alone.table), rows_of(results.table, training="hwa"))


def test_more_chips_and_times_keep_the_rows_that_were_there(results, experiment, tmp_path):
    sweep = SweepConfig(chips=3, times_s=(0.0, 1.0, DAY_S), reads=2)
    more = evaluate(replace(experiment, sweep=sweep, out=tmp_path)).table
    kept = rows_of(more, hardware="pcm", chip=[0, 1], time_s=[0.0, DAY_S], read=0)
    pd.testing.assert_frame_equal(kept, rows_of(results.table, hardware="pcm"))


def test_the_batch_size_changes_no_digital_row(results, experiment, tmp_path):
    once = replace(
        experiment, batch_size=3, sweep=SweepConfig(chips=1, times_s=(0.0,)), out=tmp_path
    )
    table = rows_of(evaluate(once).table, hardware="digital")
    assert table["value"].tolist() == pytest.approx(
        rows_of(results.table, hardware="digital")["value"].tolist(), abs=1e-3
    )


def test_the_written_experiment_is_the_experiment_and_gives_the_same_bytes(
    results, experiment, tmp_path
):
    path = experiment.out / "experiment.yaml"
    assert yaml.safe_load(path.read_text())["hardware"]["tile_size"] == 512
    again = parse(Experiment, ["--config", str(path)], prog="eval")
    assert again == replace(experiment, metrics=("dice",), batch_size=8)  # of the task
    expected = {name: (experiment.out / name).read_bytes() for name in TABLES}
    assert tables_of(again, tmp_path) == expected
    assert (tmp_path / "experiment.yaml").read_text() == to_yaml(replace(again, out=tmp_path))


def test_the_environment_is_written_beside_it(results, experiment):
    environment = json.loads((experiment.out / "environment.json").read_text())
    assert environment["versions"]["torch"]


def test_a_network_is_not_tested_on_patients_that_it_was_trained_on(experiment, tmp_path):
    leaking = replace(experiment, task=replace(experiment.task, split_seed=1), out=tmp_path)
    seen = set(load_checkpoint(experiment.checkpoints[0]).info.patients)
    tested = {case.patient_id for case in leaking.task.load().test}
    shown = sorted(seen & tested)
    assert shown
    settings = experiment.checkpoints[0].parent / "training.yaml"
    with pytest.raises(
        LeakageError,
        match=rf"trained on {len(shown)} of the test.*{shown[0]}.*; they are in {settings}",
    ):
        evaluate(leaking)
    assert not (tmp_path / "results.csv").exists()


def test_a_network_with_other_channels_is_refused_with_both_numbers(experiment, tmp_path):
    options = {"phantom_patients": 4, "phantom_size": 32}
    spleen = TaskConfig("phantom_spleen", root=tmp_path, spatial_dims=2, options=options)
    message = (
        r"has 3 input and 1 output channels in 2D; task phantom_spleen needs 1 \(CT\) and 1 in 2D"
        r"\. Its training was on task phantom_brain with the classes tumour\. Set that task, or .*"
    )
    with pytest.raises(ConfigError, match=message):
        evaluate(replace(experiment, task=spleen, out=tmp_path / "run"))


def test_two_networks_that_the_table_cannot_tell_apart_are_refused(experiment, tmp_path):
    twins = (experiment.checkpoints[0],) * 2
    with pytest.raises(ConfigError, match="are both unet with digital training"):
        evaluate(replace(experiment, checkpoints=twins, out=tmp_path))


def test_a_task_without_a_shipped_network_says_how_to_get_one():
    with pytest.raises(ConfigError, match=r"for task 'lgg'.*'analogmed train'.*--checkpoints"):
        checkpoint_paths(Experiment(task=TaskConfig("lgg")))


def test_given_networks_are_taken_as_they_are():
    paths = (Path("b"), Path("a"))
    assert checkpoint_paths(Experiment(checkpoints=paths)) == paths


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metrics": ("dise",)}, ConfigError, "unknown metric 'dise'; did you mean 'dice'"),
        ({"profile": "hermes"}, ConfigError, "hermes"),
        ({"profile": "alpine", "level": "measured_layer"}, ConfigError, "no measured_layer"),
        ({"device": "gpu"}, ConfigError, "device 'gpu' is not there"),
        ({"digital_layers": ("nothing",)}, ConfigError, "no layer of the model is called"),
        ({"digital_layers": ("*",)}, CoverageError, "no layer that can be put on a tile"),
        ({"checkpoints": (Path("none.safetensors"),)}, CheckpointError, "no such file"),
    ],
)
def test_settings_that_do_not_fit_are_refused(experiment, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        evaluate(replace(experiment, out=tmp_path, **changes))


def test_times_that_the_chip_is_not_known_at_are_refused_before_the_data_are_read(tmp_path):
    nowhere = TaskConfig("lgg", root=tmp_path / "gone")
    reram = Experiment(task=nowhere, hardware=Hardware("reram"), out=tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"t0, .*: --sweep\.times_s 1 86400 172800, or",
    ):
        evaluate(reram)
    known = replace(reram, sweep=SweepConfig(times_s=(1, 86_400, 172_800)))
    with pytest.raises(ConfigError, match="gone: no such folder"):
        evaluate(known)


def test_a_file_in_the_place_of_the_run_folder_is_refused_before_the_data_are_read(
    experiment, tmp_path
):
    (tmp_path / "run").write_text("precious")
    nowhere = TaskConfig("lgg", root=tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"cannot write to .*run.*--out"):
        evaluate(replace(experiment, task=nowhere, out=tmp_path / "run"))
    assert (tmp_path / "run").read_text() == "precious"


def test_a_damaged_network_does_not_touch_earlier_results(results, experiment, tmp_path):
    expected = {name: (experiment.out / name).read_bytes() for name in TABLES}
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(experiment.checkpoints[0].read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=str(broken)):
        evaluate(replace(experiment, checkpoints=(broken,)))
    assert {name: (experiment.out / name).read_bytes() for name in TABLES} == expected


def test_layers_that_stay_digital_are_told(experiment, tmp_path):
    checkpoint = load_checkpoint(experiment.checkpoints[0])
    last = [name for name, p in checkpoint.network.named_parameters() if p.ndim == 4][-1]
    layer = last.removesuffix(".weight")
    once = SweepConfig(chips=1, times_s=(0.0,))
    with pytest.warns(UserWarning, match=f"unet: {layer} stays digital: asked for"):
        found = evaluate(
            replace(
                experiment,
                checkpoints=experiment.checkpoints[:1],
                digital_layers=(layer,),
                sweep=once,
                out=tmp_path,
            )
        )
    assert 0 < found.costs.loc[0, "analog_weight_share"] < 1


def test_a_factory_is_called_only_if_the_experiment_allows_it(experiment, tmp_path):
    checkpoint = load_checkpoint(experiment.checkpoints[0])
    factory = "analogmed.models.unet:UNet"
    own = save_checkpoint(
        tmp_path / "own.safetensors", checkpoint.network, replace(checkpoint.info, model=factory)
    )
    allowed = replace(
        experiment,
        checkpoints=(own,),
        factories=(factory,),
        sweep=SweepConfig(chips=1, times_s=(0.0,)),
        out=tmp_path / "run",
    )
    assert set(evaluate(allowed).table["model"]) == {factory}
    with pytest.raises(CheckpointError, match="--factories"):
        evaluate(replace(allowed, factories=()))


def test_a_network_on_other_data_or_hardware_than_it_was_trained_for_is_told(
    experiment, tiny_hwa, tmp_path
):
    trained = load_checkpoint(tiny_hwa)
    info = replace(trained.info, task="lgg", window=(96, 96))
    path = save_checkpoint(tmp_path / "other.safetensors", trained.network, info)
    changes = {"checkpoints": (path,), "hardware": Hardware("hermes"), "out": tmp_path / "run"}
    with pytest.warns(UserWarning, match=r"on lgg, not.*\(96, 96\), not.*another chip \(pcm"):
        evaluate(replace(experiment, **changes))


@pytest.mark.usefixtures("results")
def test_a_page_shows_the_tables_that_an_evaluation_writes(experiment, read_back):
    run = read_back(experiment.out)
    assert run.kind == "evaluation"
    others = {"curves", "comparison", "time_to_failure", "chip_losses"}
    assert set(run.tables) == {"summary", *others}
