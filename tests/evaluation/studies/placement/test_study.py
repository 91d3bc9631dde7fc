import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analogmed.analog import Hardware
from analogmed.config import EngineConfig, Experiment, SweepConfig
from analogmed.evaluation import evaluate
from analogmed.evaluation.studies.placement.study import place_layers, with_processor
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig, SensitivityConfig
from analogmed.evaluation.studies.sensitivity.study import sensitivity
from analogmed.execution.run_folder import WrittenFiles
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import DAY_S
from analogmed.hardware import estimate, map_tiles
from analogmed.sensitivity import main
from analogmed.training import load_checkpoint

pytestmark = pytest.mark.slow

LOUD = Hardware(tile_size=256, out_noise=0.3, prog_noise_scale=3.0)
SWEEP = SweepConfig(chips=2, times_s=(DAY_S,))


@pytest.fixture(scope="module")
def looked(tiny_task, tiny_digital, tmp_path_factory):
    """Run folder of the layers' sensitivities."""
    out = tmp_path_factory.mktemp("looked")
    sensitivity(
        SensitivityConfig(
            task=tiny_task,
            checkpoints=(tiny_digital,),
            hardware=LOUD,
            parts=("layers",),
            sweep=SWEEP,
            engine=EngineConfig(threads=1),
            out=out,
        )
    )
    return out


@pytest.fixture(scope="module")
def config(looked, tiny_task, tiny_digital, tmp_path_factory):
    return PlacementConfig(
        task=tiny_task,
        checkpoints=(tiny_digital,),
        hardware=LOUD,
        sweep=SWEEP,
        engine=EngineConfig(threads=1),
        loss=0.02,
        digital_gmac_per_s=1e-3,
        digital_pj_per_mac=1e4,
        sensitivity=looked,
        out=tmp_path_factory.mktemp("placed"),
    )


@pytest.fixture(scope="module")
def placed(config):
    return place_layers(config)


def test_the_run_folder_holds_tables_figure_and_placement(placed, config):
    names = {str(p.relative_to(config.out)) for p in config.out.rglob("[!.]*") if p.is_file()}
    assert {name for name in names if not name.startswith("units/")} == {
        "experiment.yaml",
        "environment.json",
        "ranking.csv",
        "placements.csv",
        "placement.yaml",
        "figures/placements.png",
    }


def test_the_first_step_is_the_whole_network_analog(placed):
    first = placed.steps.iloc[0]
    assert (first["layer"], first["digital"], first["digital_layers"]) == ("", "", 0)
    drops = placed.ranking[placed.ranking["setting"] == "all_analog"]
    assert first["drop"] == pytest.approx(drops["drop"].max())
    assert first["predicted_drop"] == pytest.approx(first["drop"])


def test_what_is_chosen_is_the_cheapest_within_the_accepted_loss(placed, config):
    steps, chosen = placed.steps, placed.chosen
    accepted = steps[steps["drop"] <= config.loss]
    assert steps.loc[0, "drop"] > config.loss
    assert chosen["digital_layers"] > 0
    assert chosen["drop"] <= config.loss
    assert chosen["latency_ms"] == accepted["latency_ms"].min()
    assert chosen["drop_low"] <= chosen["drop"] <= chosen["drop_high"]


def test_no_step_is_better_in_both_than_one_on_the_front(placed):
    front = placed.steps[placed.steps["pareto"]].sort_values("latency_ms")
    assert front["drop"].is_monotonic_decreasing
    for _, step in placed.steps.iterrows():
        assert ((front["latency_ms"] <= step["latency_ms"]) & (front["drop"] <= step["drop"])).any()


def test_costs_are_those_of_the_profile_with_the_layers_digital(placed, config):
    network = load_checkpoint(config.checkpoints[0]).network
    for _, step in placed.steps.iterrows():
        digital = step["digital"].split(";") if step["digital"] else []
        mapped = map_tiles(network, (1, 3, 32, 32), 256, row_split="even", digital_layers=digital)
        cost = estimate(mapped, with_processor(config))
        assert step["latency_ms"] == pytest.approx(1e3 * cost.latency_s)
        assert step["energy_mj"] == pytest.approx(1e3 * cost.stack_j(1))
        assert step["tiles"] == cost.tiles


def test_each_step_was_run_and_not_only_predicted(placed):
    assert (placed.steps["drop"] != placed.steps["predicted_drop"]).iloc[1:].any()


def test_the_placement_is_a_setting_of_an_evaluation(placed, config, tmp_path):
    path = config.out / "placement.yaml"
    content = yaml.safe_load(path.read_text())
    layers = placed.chosen["digital"].split(";")
    assert content["digital_layers"] == layers
    assert content["provenance"]["chosen"]["drop"] == pytest.approx(placed.chosen["drop"])
    assert content["provenance"]["network"] == config.checkpoints[0].name
    assert content["provenance"]["hardware"]["out_noise"] == 0.3
    experiment = Experiment(
        task=config.task,
        checkpoints=config.checkpoints,
        hardware=LOUD,
        sweep=SweepConfig(chips=1, times_s=(0.0,)),
        digital_layers=(str(path),),
        out=tmp_path,
    )
    assert experiment.digital_layers == tuple(layers)
    with pytest.warns(UserWarning, match="stays digital: asked for"):
        found = evaluate(experiment)
    assert 0 < found.costs.loc[0, "analog_weight_share"] < 1


@pytest.mark.exhaustive
def test_layers_measured_before_or_now_give_the_same_bytes(placed, config, tmp_path):
    place_layers(replace(config, sensitivity=None, out=tmp_path))
    for name in ("placement.yaml", "placements.csv"):
        assert (tmp_path / name).read_bytes() == (config.out / name).read_bytes()


def test_a_free_processor_takes_over_without_a_loss(config, tmp_path):
    fast = replace(config, digital_gmac_per_s=1e9, loss=0.9, out=tmp_path)
    placed = place_layers(fast)
    assert placed.chosen["latency_ms"] < placed.steps.loc[0, "latency_ms"]
    assert placed.chosen["digital_layers"] == placed.steps["digital_layers"].max()


@pytest.mark.usefixtures("placed")
def test_the_program_prints_its_steps_and_what_was_chosen(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    settings = ["--config", str(config.out / "experiment.yaml"), "--out", str(tmp_path)]
    assert main(["placement", *settings]) == 0
    printed = capsys.readouterr().out
    assert "Placements; time and energy estimated for hermes-1-phase, level mvm_only" in printed
    assert f"tables and figures: {tmp_path}/" in printed
    assert (tmp_path / "placements.csv").read_bytes() == (
        config.out / "placements.csv"
    ).read_bytes()


def test_the_program_tells_a_negative_loss_in_a_sentence(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    assert main(["placement", "--loss=-0.01"]) == 2
    assert capsys.readouterr().err == (
        "error: loss: expected a finite number at least 0 and below 1, got -0.01\n"
    )


def test_an_accepted_start_leaves_all_layers_on_tiles(config, tmp_path):
    placed = place_layers(replace(config, loss=0.9, out=tmp_path))
    assert len(placed.steps) == 1
    assert yaml.safe_load((tmp_path / "placement.yaml").read_text())["digital_layers"] == []
    assert Experiment(digital_layers=(str(tmp_path / "placement.yaml"),)).digital_layers == ()


@pytest.mark.exhaustive
def test_a_loss_that_no_placement_keeps_is_an_error_after_the_tables(config, tmp_path):
    (tmp_path / "placement.yaml").write_text("digital_layers: [of an earlier run]")
    WrittenFiles(tmp_path).record("placement.yaml")
    with pytest.raises(
        ConfigError, match=r"placement that was run has a drop of 0 .*placements\.csv"
    ):
        place_layers(
            replace(config, loss=0.0, hardware=replace(LOUD, out_noise=3.0), out=tmp_path,
                    sensitivity=None, sweep=SweepConfig(chips=2, times_s=(0.0,)))
        )  # fmt: skip
    assert len(pd.read_csv(tmp_path / "placements.csv")) > 1
    assert not (tmp_path / "placement.yaml").exists()


@pytest.mark.parametrize(
    ("objective", "option"),
    [("latency", "--digital_gmac_per_s"), ("energy", "--digital_pj_per_mac")],
)
def test_a_profile_that_does_not_know_the_processor_is_refused(objective, option):
    config = PlacementConfig(objective=objective)
    with pytest.raises(ConfigError, match=rf"hermes-1-phase.*{objective} would be 0.*{option}"):
        place_layers(config)


def test_layers_measured_with_other_settings_are_refused(config, tmp_path):
    other = replace(config, seed=1, out=tmp_path)
    with pytest.raises(ConfigError, match=r"other settings \(seed\)"):
        place_layers(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": -0.01}, "loss: .* at least 0 and below 1, got -0.01"),
        ({"loss": float("nan")}, "loss"),
        ({"loss": 1.0}, "loss"),
        ({"digital_gmac_per_s": -1.0}, "digital_gmac_per_s must be above 0"),
        ({"digital_pj_per_mac": 0.0}, "digital_pj_per_mac must be above 0"),
        ({"profile": None}, "needs the times of a profile"),
        ({"layers": ("head",)}, "considers all layers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PlacementConfig(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers: [head]", "expected a list of layer names under digital_layers, found None"),
        ("digital_layers: head", "found 'head'"),
        ("digital_layers: [1]", r"found \[1\]"),
    ],
)
def test_a_file_that_is_no_placement_is_refused(text, message, tmp_path):
    path = tmp_path / "placement.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Experiment(digital_layers=(str(path),))


def test_a_missing_placement_is_refused_by_its_path():
    with pytest.raises(ConfigError, match=r"cannot read .*nothing\.yaml"):
        Experiment(digital_layers=(str(Path("nothing.yaml")),))


def test_names_and_a_placement_go_together(tmp_path):
    path = tmp_path / "placement.yaml"
    path.write_text("digital_layers: [b, c]\nprovenance: {}\n")
    assert Experiment(digital_layers=("a", str(path), "c")).digital_layers == ("a", "b", "c")


@pytest.mark.usefixtures("placed")
def test_a_page_shows_the_tables_that_a_placement_writes(config, read_back):
    run = read_back(config.out)
    assert (run.kind, set(run.tables)) == ("placement", {"placements", "ranking"})


@pytest.mark.usefixtures("placed")
def test_an_interrupted_run_resumes_in_two_processes_to_the_same_bytes(config, check_resume):
    check_resume(place_layers, config)
