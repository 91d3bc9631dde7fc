import json
import re

import pandas as pd
import pytest

from analogmed.foundation.errors import DataError
from analogmed.report import write_report
from analogmed.report.runs import read_run


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
def test_a_placement_tells_the_layers_left_digital_and_each_layers_cost(write, tables_of):
    folder = write("placed", **tables_of("placement"))
    assert read_run(folder).kind == "placement"
    page, markdown, latex = texts_of(folder)
    found = "With 1 digital layer (head), the drop of Dice is 0.030 (95 % interval 0.020 to 0.040)."
    assert found in page
    assert "Choice of the digital layers" in page and "noise source with" not in page
    assert "| head | chosen | 1 | 0.030 (0.020 to 0.040)" in markdown
    assert r"head & chosen & 1 & 0.030 (0.020 to 0.040)" in latex


def test_a_sensitivity_run_names_the_worst_layer_and_the_worst_source(write, tables_of):
    page = texts_of(write("sensitivity", **tables_of("sensitivity")))[0]
    for what in (
        "layer with the largest drop of Dice as the only analog one is head",
        "noise source with the largest drop of Dice as the only one is drift",
    ):
        found = f"1 day after programming, the {what}: 0.030 (95 % interval 0.020 to 0.040)."
        assert found in page
    assert page.count("<figure") == 2


def test_a_mitigation_tells_what_it_gains_and_what_it_takes(write, tables_of):
    page, markdown, _ = texts_of(write("mitigation", **tables_of("mitigation")))
    assert (
        "1 day after programming, the Dice of the hardware-aware U-Net is higher by 0.020 (95 % "
        "interval 0.010 to 0.030) with BatchNorm statistics of the chip than with drift "
        "compensation alone."
    ) in page
    assert (
        "| + BatchNorm | 0.800 | 0.800 | 0.800 | 0.020 (0.010 to 0.030) | 32 | 0 | 32 |" in markdown
    )


def test_an_uncertainty_run_tells_certainty_apart_from_being_right(write, tables_of):
    page, markdown, _ = texts_of(write("sure", **tables_of("uncertainty")))
    start = "1 day after programming, in the band about the structure, "
    for outcome in (
        "hardware-aware training lowers the variance of the probability of the U-Net: 0.006 "
        "instead of 0.016 (95 % interval of the difference -0.0110 to -0.0090; 7 patients).",
        "hardware-aware training raises the calibration error of the U-Net: 0.040 instead of "
        "0.018 (95 % interval of the difference 0.0210 to 0.0230; 7 patients).",
    ):
        assert start + outcome in page
    assert "Components of the variance" in page
    assert "| U-Net, hardware-aware | 1 day | 0.01000 (0.00500 to 0.02000) |" in markdown
    assert "Reliability" not in page


def test_an_outcome_whose_interval_holds_zero_is_left_open(write, tables_of):
    tables = tables_of("uncertainty")
    tables["comparison"][["difference_low", "difference_high"]] = [-0.1, 0.1]
    page = texts_of(write("open", **tables))[0]
    for name in ("variance of the probability", "calibration error"):
        found = (
            f"the {name} of the U-Net with hardware-aware and with digital training is not "
            "statistically distinguishable: "
        )
        assert found in page


def test_a_folder_of_run_folders_is_refused_with_their_names(write):
    folder = write("cost", layers=pd.DataFrame({"reuse_factor": [1.0]}))
    with pytest.raises(DataError, match=rf"but contains {folder.name}: expected one or more"):
        read_run(folder.parent)


def test_a_folder_with_only_a_part_of_a_run_is_refused(write):
    with pytest.raises(DataError, match=r"is no run folder: expected one of .*ranking\.csv"):
        read_run(write("part", density=pd.DataFrame({"count": [1]})))


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (
            ["analogmed/uncertainty.py", "mitigation", "--images", "8"],
            "python -m analogmed.uncertainty mitigation --images 8",
        ),
        (
            ["bin/analogmed", "uncertainty", "mitigation", "--images", "8"],
            "analogmed uncertainty mitigation --images 8",
        ),
    ],
)
def test_the_command_of_a_run_names_its_program_once(write, command, call, tables_of):
    folder = write("mitigation", **tables_of("mitigation"))
    (folder / "environment.json").write_text(json.dumps({"command": command}))
    markdown = texts_of(folder)[1]
    assert f"# {call}\n" in markdown


@pytest.mark.usefixtures("tiny_digital")
def test_a_page_shows_the_log_that_a_training_writes(tiny_training, read_back):
    run = read_back(tiny_training.out)
    assert (run.kind, set(run.tables)) == ("training", {"log"})


@pytest.mark.parametrize(
    ("options", "name"), [({"name": "our knees"}, "our knees"), ({}, "nifti"), (None, "nifti")]
)
def test_the_title_has_the_name_of_own_data(write, tables_of, options, name):
    folder = write("mitigation", **tables_of("mitigation"))
    settings = {"task": {"name": "nifti", "options": options}, "hardware": {"preset": "pcm"}}
    (folder / "experiment.yaml").write_text(json.dumps(settings))
    page = write_report([folder])[0].read_text(encoding="utf-8")
    assert f"<h1>{name} on PCM chips</h1>" in page.replace("\n", "")


def test_a_digital_training_is_on_no_chip(write, tables_of):
    folder = write("trained", **tables_of("training"))
    titles = []
    for training in ("digital", "hwa"):
        settings = {"task": {"name": "lgg"}, "hardware": {"preset": "pcm"}, "training": training}
        (folder / "training.yaml").write_text(json.dumps(settings))
        titles.append(texts_of(folder)[1].splitlines()[0])
    assert titles == ["# LGG", "# LGG on PCM chips"]


def test_the_contents_of_a_page_are_its_runs_and_of_a_run_its_sections(write, tables_of):
    page = texts_of(*(write(name, **tables_of("training")) for name in ("one", "two")))[0]
    bar = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall('href="#(.*?)"', bar) == ["run1", "run2"]
    second = page[page.index('<article id="run2"') :]
    contents = second[second.index('<ul class="contents"') : second.index("</ul>")]
    assert re.findall('href="#(.*?)"', contents) == ["run2-training", "run2-made"]
    alone = texts_of(write("alone", **tables_of("training")))[0]
    assert 'class="contents"' not in alone
