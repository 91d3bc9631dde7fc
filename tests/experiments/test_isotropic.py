"""The experiment on isotropic and pyramidal networks of matched size."""

import shutil
import sys

import pandas as pd
import pytest

from analogmed.config import Experiment, SweepConfig
from analogmed.evaluation import evaluate
from analogmed.models import build_model


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "isotropic")


@pytest.fixture(scope="module")
def networks(experiment):
    """Two networks of the same name in all but the folder of their runs."""
    return [experiment.Network("unet", 4, 512), experiment.Network("pyramidal", 4, 512)]


@pytest.fixture(scope="module")
def out(networks, tiny_task, tiny_digital, tiny_hwa, tmp_path_factory):
    """Folder of two evaluations, the second of which is a copy of the first."""
    out = tmp_path_factory.mktemp("isotropic")
    evaluate(
        Experiment(
            task=tiny_task,
            checkpoints=(tiny_digital, tiny_hwa),
            sweep=SweepConfig(chips=2, times_s=(0.0, 86_400.0)),
            examples=0,
            out=out / networks[0].folder / "eval",
        )
    )
    shutil.copytree(out / networks[0].folder, out / networks[1].folder)
    return out


def test_a_network_is_as_wide_as_it_takes_to_have_the_parameters(experiment):
    for width in (1, 3):
        parameters = experiment.size_of(experiment.Network("unet", width, 512))["parameters"]
        (found,) = experiment.matched(["unet"], "parameters", parameters, 512)
        assert found.width == width
    (nearest,) = experiment.matched(["unet"], "parameters", 500_000, 512)
    assert nearest.width == 8  # 486,553; with 9 it would have 615,628


def test_networks_that_cannot_be_matched_are_told_with_what_they_have(experiment):
    with pytest.raises(SystemExit, match=r"not all can have 15000 parameters .* unet-1 7802; choo"):
        experiment.matched(["unet"], "parameters", 15_000, 512)


def test_the_two_shapes_differ_in_the_growth_of_the_channels_only(experiment):
    channels = {}
    for name in ("isotropic", "pyramidal"):
        network = experiment.Network(name, 4, 512)
        levels = network.options["genotype"]["levels"]
        assert {level["block"] for level in levels} == {"F"}
        assert {level["kernel"] for level in levels} == {3}
        channels[name] = [level["channels"] for level in levels]
    assert channels == {"isotropic": [4] * 5, "pyramidal": [4, 8, 16, 32, 64]}


@pytest.mark.slow
def test_tiles_are_matched_near_a_number_that_all_can_take(experiment):
    names = ["isotropic", "pyramidal", "unet"]
    matched = experiment.matched_near(names, "tiles", 28, 512)
    tiles = [experiment.size_of(network)["tiles"] for network in matched]
    assert max(tiles) <= 1.1 / 0.9 * min(tiles)
    assert [network.name for network in matched] == names


@pytest.mark.parametrize("name", ["isotropic", "pyramidal", "unet", "unetpp", "swin_unetr"])
def test_the_counted_parameters_are_those_of_the_network(experiment, name):
    network = experiment.Network(name, 1 if name == "swin_unetr" else 3, 512)
    model = build_model(network.model, in_channels=3, out_channels=1, **network.options)
    counted = experiment.size_of(network)
    assert counted["parameters"] == sum(p.numel() for p in model.parameters())
    assert counted["tiles"] >= 20


@pytest.mark.slow
def test_the_table_has_what_the_evaluations_found(experiment, networks, out):
    table = experiment._table("parameters", networks, out)
    assert table["network"].tolist() == ["unet", "unet", "pyramidal", "pyramidal"]
    summary = pd.read_csv(out / networks[0].folder / "eval" / "summary.csv")
    for column in ("training", "dice_own_digital", "dice_1d_low", "normalised_dice_1d", "tiles"):
        assert table[column].tolist() == summary[column].tolist() * 2
    text = experiment._as_text(table)
    row = summary.iloc[0]
    cell = f"{row['dice_1d']:.3f} ({row['dice_1d_low']:.3f} to {row['dice_1d_high']:.3f})"
    assert text["dice_1d"].iloc[0] == cell
    assert "dice_1d_low" not in text


@pytest.mark.slow
def test_a_network_does_not_differ_from_its_copy(experiment, networks, out):
    found = experiment._differences("tiles", networks, out)
    assert found["training"].tolist() == ["digital", "hwa"]
    assert found[["network", "less"]].to_numpy().tolist() == [["unet", "pyramidal"]] * 2
    for name in ("dice_1d", "kept"):
        assert found[name].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
        assert (found[f"{name}_low"] < 0).all()
        assert (found[f"{name}_high"] > 0).all()


def test_the_plan_is_written_and_trains_nothing(experiment, tmp_path, monkeypatch, capsys):
    names = ["isotropic", "pyramidal"]
    arguments = ["--plan", "--networks", *names, "--match", "parameters", "--parameters", "30000"]
    monkeypatch.setattr(sys, "argv", ["isotropic.py", *arguments, "--out", str(tmp_path)])
    experiment.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines if line.startswith("| parameters")] == names
    assert [path.name for path in tmp_path.iterdir()] == ["plan.md"]


def test_a_setting_that_no_program_takes_is_refused(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["isotropic.py", "--out", str(tmp_path), "--epoch=3"])
    with pytest.raises(SystemExit):
        experiment.main()
    assert "unknown: --epoch=3" in capsys.readouterr().err
