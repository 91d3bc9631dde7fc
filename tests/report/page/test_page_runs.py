import json

import numpy as np
import pandas as pd
import pytest

from analogmed.foundation.errors import DataError
from analogmed.report import write_report
from analogmed.report.runs import read_run

BOUNDS = ("", "_low", "_high")
DAY_S = 86_400.0


def spread(name, value, width=0.01):
    return dict(
        zip((name + end for end in BOUNDS), (value, value - width, value + width), strict=True)
    )


def ranking():
    counts = {"n_patients": 7, "n_chips": 5, "level": 0.95, "note": ""}
    rows = [
        {"setting": setting, "subject": subject, "time_s": DAY_S, "rank": place + 1}
        | spread("effect", 0.03 - 0.02 * place)
        | spread("drop", 0.03)
        | counts
        for setting, subjects in (
            ("only_analog", ("head", "encoder1")), ("noise_alone", ("drift", "programming")),
        )
        for place, subject in enumerate(subjects)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def steps():
    shared = {
        "objective": "latency", "loss": 0.05, "profile": "hermes-1-phase", "energy_mj": np.nan,
        "level_of_profile": "mvm_only", "n_patients": 7, "n_chips": 5, "level": 0.95, "tiles": 9,
        "worst_time_s": DAY_S,
    }  # fmt: skip
    rows = [
        {"layer": layer, "digital": layer, "digital_layers": n, "predicted_drop": drop}
        | {"latency_ms": 2.0 + n, "kept": True, "pareto": True, "chosen": n == 1}
        | spread("drop", drop)
        | shared
        for n, (layer, drop) in enumerate((("", 0.08), ("head", 0.03)))
    ]
    return pd.DataFrame(rows)


def mitigation():
    rows = [
        {"model": "unet", "training": "hwa", "time_s": DAY_S, "option": option, "metric": metric}
        | spread("value", 0.8)
        | spread("gain", 0.02 if option == "batchnorm" else np.nan)
        | {"images": 32, "labelled_images": 0, "passes": 32, "parameters": 8}
        | {"n_patients": 7, "n_chips": 5, "level": 0.95}
        for option in ("none", "batchnorm")
        for metric in ("dice", "ece_band", "nll_band")
    ]
    return pd.DataFrame(rows)


def uncertainty():
    place = {"task": "lgg", "model": "unet", "source": "chips", "time_s": DAY_S, "region": "band"}
    means = {"mean_variance": 0.01, "mean_read_variance": 0.008, "mean_chip_variance": 0.002}
    rows = [
        place | {"training": training, "metric": metric, "n_patients": 7, "level": 0.95}
        | {"estimate": value, "low": value / 2, "high": 2 * value}
        for training in ("digital", "hwa")
        for metric, value in (means | {"ece": 0.04}).items()
    ]  # fmt: skip
    pairs = [
        place | {"metric": metric, "digital": digital, "hwa": hwa, "p_value": 0.016}
        | {"n_patients": 7, "level": 0.95} | spread("difference", hwa - digital, 0.001)
        for metric, digital, hwa in (("mean_variance", 0.016, 0.006), ("ece", 0.018, 0.04))
    ]  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(pairs)


@pytest.fixture
def write(tmp_path):
    def write(name, **tables):
        folder = tmp_path / name
        folder.mkdir()
        for table, rows in tables.items():
            rows.to_csv(folder / f"{table}.csv", index=False)
        return folder

    return write


def texts_of(*folders):
    return [path.read_text(encoding="utf-8") for path in write_report(folders)]


@pytest.mark.slow
def test_a_placement_tells_the_layers_left_digital_and_each_layers_cost(write):
    folder = write("placed", placements=steps(), ranking=ranking())
    assert read_run(folder).kind == "placement"
    page, markdown, latex = texts_of(folder)
    assert "Left digital: head; the Dice lost is then 0.030 (95 % interval 0.020 to 0.040)." in page
    assert "Which layers to leave digital" in page and "noise source that costs" not in page
    assert "| head | chosen | 1 | 0.030 (0.020\u20130.040)" in markdown
    assert r"head & chosen & 1 & 0.030 (0.020--0.040)" in latex


def test_a_sensitivity_run_names_the_worst_layer_and_the_worst_source(write):
    page = texts_of(write("sensitivity", ranking=ranking()))[0]
    assert "The layer that costs the most, alone, at 1 day: head, 0.030 Dice" in page
    assert "The noise source that costs the most, alone, at 1 day: drift, 0.030 Dice" in page
    assert page.count("<figure") == 2


def test_a_mitigation_tells_what_it_gains_and_what_it_takes(write):
    page, markdown, _ = texts_of(write("mitigation", summary=mitigation()))
    assert "At 1 day, batchnorm gains the hardware-aware U-Net 0.020 Dice" in page
    assert (
        "| batchnorm | 0.800 | 0.800 | 0.800 | 0.020 (0.010\u20130.030) | 32 | 0 | 32 |" in markdown
    )


def test_an_uncertainty_run_tells_certainty_apart_from_being_right(write):
    summary, comparison = uncertainty()
    page, markdown, _ = texts_of(write("sure", summary=summary, comparison=comparison))
    assert (
        "On the chip, 1 day after programming and about the structure, hardware-aware training "
        "makes the U-Net more certain (variance of the probability 0.006 against 0.016, difference "
        "-0.0110 to -0.0090), worse calibrated (calibration error 0.040 against 0.018, difference "
        "0.0210 to 0.0230). 7 patients, 95 % intervals."
    ) in page
    assert "Where the variance comes from" in page
    assert "| U-Net, hardware-aware | 1 day | 0.01000 (0.00500\u20130.02000) |" in markdown
    assert "Reliability" not in page


def test_an_outcome_whose_interval_holds_zero_is_left_open(write):
    summary, comparison = uncertainty()
    comparison[["difference_low", "difference_high"]] = [-0.1, 0.1]
    page = texts_of(write("open", summary=summary, comparison=comparison))[0]
    assert "neither less certain nor more certain (the interval includes 0)" in page
    assert "neither worse calibrated nor better calibrated (the interval includes 0)" in page


def test_a_folder_with_only_a_part_of_a_run_is_refused(write):
    with pytest.raises(DataError, match=r"is no run folder: expected one of .*ranking\.csv"):
        read_run(write("part", density=pd.DataFrame({"count": [1]})))


@pytest.mark.parametrize(
    "command",
    [
        ["analogmed/uncertainty.py", "mitigation", "--images", "8"],
        ["bin/analogmed", "uncertainty", "mitigation", "--images", "8"],
    ],
)
def test_the_command_of_a_run_names_its_program_once(write, command):
    folder = write("mitigation", summary=mitigation())
    (folder / "environment.json").write_text(json.dumps({"command": command}))
    markdown = texts_of(folder)[1]
    assert "# python -m analogmed.uncertainty mitigation --images 8\n" in markdown


@pytest.mark.usefixtures("tiny_digital")
def test_a_page_shows_the_log_that_a_training_writes(tiny_training, read_back):
    run = read_back(tiny_training.out)
    assert (run.kind, set(run.tables)) == ("training", {"log"})


@pytest.mark.parametrize(
    ("options", "name"), [({"name": "our knees"}, "our knees"), ({}, "nifti"), (None, "nifti")]
)
def test_the_title_has_the_name_of_own_data(make_run, tmp_path, options, name):
    folder = make_run(tmp_path / "run")
    settings = {"task": {"name": "nifti", "options": options}, "hardware": {"preset": "pcm"}}
    (folder / "experiment.yaml").write_text(json.dumps(settings))
    page = write_report([folder])[0].read_text(encoding="utf-8")
    assert f"<h1>{name} on PCM chips</h1>" in page.replace("\n", "")
