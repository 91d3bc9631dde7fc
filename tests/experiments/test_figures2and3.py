"""The experiment for the paper's figures 2 and 3, with a small network."""

import json
import sys

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

CHIPS, READS = 2, 2


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "figures2and3")


@pytest.fixture(scope="module")
def out(experiment, tiny_task, tiny_digital, tiny_hwa, tmp_path_factory):
    """What the experiment has written."""
    out = tmp_path_factory.mktemp("figures2and3")
    arguments = [
        *("--checkpoints", tiny_hwa, tiny_digital, "--models", "unet", "--out", out),
        *("--chips", CHIPS, "--reads", READS, "--sweep.times_s=[0, 86400]"),
        *(f"--task.root={tiny_task.root}", f"--task.options={json.dumps(tiny_task.options)}"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["figures2and3.py", *map(str, arguments)])
        experiment.main()
    return out


def compared(**where):
    row = {"model": "unet", "time_s": 0.0, "metric": "ece", "difference": 0.0}
    return {**row, "difference_low": -0.1, "difference_high": 0.1, **where}


def test_figures_and_tables_are_written(out):
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "figure2_phantom_brain_unet.png",
        "figure3_phantom_brain.png",
        "reliability_phantom_brain.png",
        "risk_coverage_phantom_brain.png",
        "table.md",
    }
    text = (out / "table.md").read_text(encoding="utf-8")
    assert text.startswith("## phantom_brain\n\n2 patients, 2 chips of 2 reads")
    assert "![figure3_phantom_brain](figure3_phantom_brain.png)" in text


def test_the_table_says_what_the_run_has_found(out):
    lines = (out / "table.md").read_text(encoding="utf-8").splitlines()
    comparison = pd.read_csv(out / "phantom_brain" / "unet" / "comparison.csv")
    chips = comparison[(comparison["source"] == "chips") & (comparison["metric"] == "nll")]
    band = chips[chips["region"] == "band"].sort_values("time_s")
    cells = [
        f"{row.difference:+.3f} ({row.difference_low:+.3f} to {row.difference_high:+.3f})"
        for row in band.itertuples()
    ]
    assert f"| unet | NLL | {' | '.join(cells)} |" in lines
    assert lines.index("### Band about the structure") < lines.index("### Whole image")
    values = [
        line for line in lines if line.startswith("| unet | variance x 1000 | chips at 1 day")
    ]
    summary = pd.read_csv(out / "phantom_brain" / "unet" / "summary.csv")
    variance = summary[(summary["metric"] == "mean_variance") & (summary["time_s"] == 86_400.0)]
    for region, line in zip(("band", "image"), values, strict=True):
        rows = variance[(variance["region"] == region) & (variance["source"] == "chips")]
        for training, cell in zip(("digital", "hwa"), line.split(" | ")[3:], strict=True):
            estimate = rows.loc[rows["training"] == training, "estimate"].item()
            assert cell.startswith(f"{1000 * estimate:.3f} ")


def test_only_an_interval_without_zero_is_a_difference(experiment):
    table = pd.DataFrame(
        [
            compared(metric="mean_variance", difference_high=-0.01),
            compared(metric="ece", difference_low=0.01),
            compared(metric="nll"),
            compared(metric="dice", difference_low=float("nan"), difference_high=float("nan")),
        ]
    )
    assert experiment.findings(table) == (
        "- unet, hardware-aware, t0: lower: variance; higher: ECE; not distinguishable: NLL, Dice\n"
    )


def test_a_network_that_was_not_trained_is_told(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["figures2and3.py", "--trained", str(tmp_path), "--models", "unetpp"]
    )
    with pytest.raises(SystemExit, match=r"unetpp.digital: there is no network; .*figure1"):
        experiment.main()
