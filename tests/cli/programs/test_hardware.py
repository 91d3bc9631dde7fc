from functools import partial

import pandas as pd
import programs
import pytest
import yaml
from PIL import Image

from analogmed.cli.main import run_command
from analogmed.cli.named_networks import parse_network
from analogmed.foundation.errors import ConfigError
from analogmed.report import write_report

main = partial(run_command, "hardware")

SMALL = ["--model", "unet(features=2)", "--input", "1", "32", "32"]


def run(capsys, *arguments):
    status = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.slow
def test_the_module_runs_by_its_name():
    done = programs.run("analogmed.hardware", *SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Estimates for hermes-1-phase, level mvm_only" in done.stdout


def test_the_test_vector_is_printed_for_the_unet(capsys):
    arguments = [
        "--transposed",
        "digital",
        "--row_split",
        "channels",
        "--slices",
        155,
        "--tile_budget",
        223,
    ]
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    line = next(line for line in out.split("Estimates")[-1].splitlines() if " unet " in line)
    assert "223" in line
    assert "180.3" in line
    assert "12.85" in line
    assert "unet: 4 layers are digital and in none of these figures" in out


def test_every_estimate_stands_under_its_profile_level_and_source(capsys):
    status, out, _ = run(capsys, *SMALL, "--level", "measured_layer", "--profile", "hermes-4-phase")
    assert status == 0
    assert out.count("Estimates for hermes-4-phase, level measured_layer") == 2
    assert "measured_layer: Le Gallo et al., Nature Electronics 2023" in out


def test_a_comparison_has_a_line_per_network_and_no_layers(capsys):
    models = ["unet(features=2)", "unetpp(features=[2, 2, 4, 4, 4, 2])"]
    status, out, _ = run(capsys, "--input", 1, 32, 32, "--model", *models)
    assert status == 0
    assert "encoder1" not in out
    assert sum("unet(features=2)" in line for line in out.splitlines()) == 2


def test_digital_layers_are_listed_with_their_products(capsys):
    network = "s4d(features=4, state=4, layers=1)"
    status, out, _ = run(capsys, "--model", network, "--input", 2, 20, "--out_channels", 3)
    assert status == 0
    line = next(line for line in out.splitlines() if "encoder.1.kernel" in line)
    macs = 4 * 20 * 17
    share = macs / (macs + 20 * (2 * 4 + 4 * 8) + 4 * 3)
    assert line.split()[-2:] == [f"{macs:,}", f"{share:.2%}"]


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["hardware", "map", *SMALL], "summary.csv"),
        (["hardware", "map", *SMALL], "figures/mine-tiles.png"),
        (["hardware", "measure", *SMALL, "--held_out"], "operations.csv"),
        (["hardware", "measure", *SMALL, "--held_out"], "networks.csv"),
        (["search", "importance", "--supernets", "no-such-folder"], "importance.csv"),
    ],
)
def test_a_file_of_the_user_in_the_folder_of_a_run_stays(command, file, capsys, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert run_command(command[0], [*command[1:], "--out", str(tmp_path)]) == 2
    assert f"would replace or remove {file}, which no run" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_a_run_replaces_the_files_of_the_run_before_and_describes_itself(capsys, tmp_path):
    out = tmp_path / "out"
    for profile in ("hermes-1-phase", "none"):
        status, _, err = run(capsys, *SMALL, "--profile", profile, "--out", out)
        assert status == 0, err
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith(".")} == {
        *("environment.json", "hardware.yaml", "summary.csv", "layers.csv", "tiles.csv"),
        *("figures/unet_features_2-tiles.png", "figures/unet_features_2-reuse.png"),
    }
    assert yaml.safe_load((out / "hardware.yaml").read_text())["profile"] == "none"


@pytest.mark.slow
def test_a_page_shows_tiles_cost_and_layers(capsys, tmp_path):
    options = ["--slices", 10, "--transposed", "digital", "--out", tmp_path]
    assert run(capsys, *SMALL, *options)[0] == 0
    layers = pd.read_csv(tmp_path / "layers.csv").set_index("layer")
    page, markdown, _ = (path.read_text(encoding="utf-8") for path in write_report([tmp_path]))
    assert page.count("<figure") == 3
    assert f"the layer {layers['energy_mj'].idxmax()} takes most energy" in page
    assert "4 layers are digital and in none of these figures." in page
    assert "estimated for hermes-1-phase (level mvm_only)" in page
    assert "Layers of unet(features=2)" in page and "| encoder1.conv1 | Conv2d |" in markdown
    assert "analogmed hardware map --config hardware.yaml" in page


def test_a_page_without_a_profile_has_tiles_alone(capsys, tmp_path):
    assert run(capsys, *SMALL, "--profile", "none", "--out", tmp_path)[0] == 0
    page = write_report([tmp_path])[0].read_text(encoding="utf-8")
    assert "Networks on tiles of 512 x 512" in page and "Time and energy" not in page
    assert page.count("<figure") == 2


@pytest.mark.slow
def test_a_folder_gets_tables_and_figures(capsys, tmp_path):
    out = tmp_path / "cost"
    options = ["--out", out, "--packing", "first_fit", "--drawn_slices", 3]
    assert run(capsys, *SMALL, *options)[0] == 0
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        "environment.json", "figures", "hardware.yaml", "layers.csv", "skip_buffers.csv",
        "summary.csv", "tiles.csv", "timeline.csv",
    }  # fmt: skip
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {f"unet_features_2-{what}.png" for what in ("tiles", "reuse", "pipeline")}
    for path in (out / "figures").iterdir():
        with Image.open(path) as image:
            assert image.width == 1200
    summary = pd.read_csv(out / "summary.csv")
    assert summary.loc[0, ["model", "profile", "level", "packing"]].tolist() == [
        "unet(features=2)", "hermes-1-phase", "mvm_only", "first_fit",
    ]  # fmt: skip
    assert summary["tiles_placed"][0] < summary["tiles"][0]
    assert pd.read_csv(out / "timeline.csv")["slice"].nunique() == 3
    assert len(pd.read_csv(out / "tiles.csv")) == summary["tiles"][0]


def test_tiles_of_any_size_need_no_profile(capsys, tmp_path):
    status, out, _ = run(
        capsys, *SMALL, "--profile", "none", "--tile_size", 64, 32, "--out", tmp_path / "tiles"
    )
    assert status == 0
    assert "Networks on tiles of 64 x 32" in out
    assert "Estimates" not in out
    assert not (tmp_path / "tiles" / "timeline.csv").exists()


def test_a_profile_of_ones_own_is_used(capsys, tmp_path):
    figures = {"time_ns": 1, "energy_nj": 1, "source": "my measurement"}
    profile = {"name": "mine", "title": "mine", "tile_size": [64, 64], "mvm_only": figures}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
    status, out, _ = run(capsys, *SMALL, "--profile", tmp_path / "mine.yaml")
    assert status == 0
    assert "Estimates for mine, level mvm_only" in out
    assert "mvm_only: my measurement" in out


def test_copies_of_weights_are_listed_by_layer(capsys, tmp_path):
    status, out, _ = run(capsys, *SMALL, "--row_copies", 4, "--out", tmp_path)
    assert status == 0
    heads, first = (next(x for x in out.splitlines() if w in x) for w in (" layer ", " encoder1.c"))
    assert first.split()[heads.split().index("copies")] == "4"
    assert pd.read_csv(tmp_path / "layers.csv")["copies"][0] == 4
    status, out, _ = run(
        capsys,
        "--model",
        "unet(features=64)",
        "--input",
        64,
        32,
        32,
        "--profile",
        "none",
        "--tile_size",
        16,
        "--row_copies",
        2,
    )
    assert "unet(features=64): no layer has few enough rows for copies of its weights" in out
    status, _, err = run(capsys, *SMALL, "--hardware.row_copies", 4)
    assert status == 2
    assert "unknown option --hardware.row_copies; did you mean '--row_copies'?" in err


def test_3d_networks_are_estimated_too(capsys):
    status, out, _ = run(capsys, "--model", "unet(features=2)", "--input", 1, 16, 16, 16)
    assert status == 0
    assert "Conv3d" in out


def test_measure_fills_a_table_that_predicts_networks(capsys, tmp_path):
    folder = tmp_path / "measured"
    arguments = ["measure", "--model", "unet(features=2)", "--input", 1, 32, 32]
    held_out = ["--held_out", "unet(features=2)", "unet(features=4)"]
    options = ["--repetitions", 3, "--out", folder, "--device_name", "test bench"]
    status, out, _ = run(capsys, *arguments, *held_out, *options)
    assert status == 0
    assert "MAPE" in out and "Kendall tau" in out and "2 held-out networks" in out
    networks = pd.read_csv(folder / "networks.csv")
    assert networks["network"].tolist() == held_out[1:]
    error = networks["predicted_ms"] / networks["measured_ms"] - 1
    assert networks["error"].tolist() == pytest.approx(error.tolist())
    assert set(networks["device"]) == {"test bench"}
    provenance = yaml.safe_load((folder / "provenance.yaml").read_text())
    assert (provenance["device"], provenance["repetitions"]) == ("test bench", 3)

    status, out, _ = run(capsys, *SMALL, "--table", folder)
    assert status == 0
    assert "ms digitally on test bench, threads: 1" in out
    other = ["--model", "unet(features=3)", "--input", 1, 32, 32, "--table", folder]
    status, _, errors = run(capsys, *other)
    assert status == 1
    assert "test bench lacks" in errors


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--profile", "hermes-1-fase"], 2, "did you mean 'hermes-1-phase'"),
        (["--profile", "alpine", "--level", "measured_layer"], 2, "no measured_layer figures"),
        (["--level", "mvm"], 2, "level: 'mvm' is not known; choose from: measured_layer, mvm_only"),
        (["--tile_budget", "-3"], 2, "--tile_budget must be 1 or more, got -3"),
        (["--tile_budget", "3"], 2, "takes 25 tiles, which 3 cannot hold"),
        (["--tile_budget", "300", "--packing", "first_fit"], 2, "choose"),
        (["--tile_budget", "300", "--profile", "none"], 2, "needs the times of a profile"),
        (["--tile_size", "512"], 2, "for tiles of 256 x 256"),
        (["--tile_size", "0"], 2, "--tile_size: expected rows and columns, 1 or more, got 0"),
        (["--slices", "0"], 2, "--slices must be 1 or more, got 0"),
        (["--out_channels", "0"], 2, "--out_channels must be 1 or more, got 0"),
        (["--digital_layers", "haed"], 2, "no layer of the model is called 'haed'"),
        (["--digital_layers", "*"], 1, "has no layer on tiles"),
        (["--input", "3"], 2, "--input: expected channels"),
        (["--input", "3", "33", "32"], 1, "cannot be run on an input of shape (1, 3, 33, 32)"),
        (["--model", "unett"], 2, "unknown model 'unett'; did you mean 'unet'?"),
        (["--model", "unet(features"], 2, "for instance unet(features=8), found 'unet(features'"),
        (["measure", "--held_out", "unett"], 2, "unknown model 'unett'; did you mean 'unet'?"),
        (["--model", "unet(width=3)"], 2, "model 'unet': unknown option 'width'"),
        (["--table", "nowhere"], 1, "no table of operations"),
        (["measure", "--threads", "0"], 2, "--threads must be 1 or more, got 0"),
        (["measure", "--repetitions", "-1"], 2, "--repetitions must be 1 or more, got -1"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(arguments, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [] if arguments[0] == "measure" else [*SMALL[:2]] * ("--model" not in arguments)
    small += [] if {"measure", "--input"} & {*arguments} else SMALL[2:]
    found, out, errors = run(capsys, *(arguments if "measure" in arguments else small + arguments))
    assert found == status
    assert out == ""
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("unet", "unet", {}),
        ("unet()", "unet", {}),
        ("unet(features=8)", "unet", {"features": 8}),
        (
            "a.b:c(x=[1, 2], y=null, z=deconv)", "a.b:c",
            {"x": [1, 2], "y": None, "z": "deconv"},
        ),
    ],
)  # fmt: skip
def test_networks_are_written_like_calls(text, name, options):
    found = parse_network(text)
    assert (found.text, found.name, found.options) == (text, name, options)


@pytest.mark.parametrize("text", ["", "a b=1", "unet(8)", "unet(features=8", "unet(a=[1)"])
def test_what_is_not_written_like_a_call_is_refused(text):
    with pytest.raises(ConfigError, match="--model: expected name"):
        parse_network(text)
