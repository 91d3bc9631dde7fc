import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analogmed.cli.main import run_command
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report.examples import read_example_cases
from analogmed.report.findings import findings
from analogmed.report.page.case_view import MOST_PIXELS, case_view, contour_path
from analogmed.report.provenance import files_of
from analogmed.report.runs import Run, read_run
from analogmed.report.tables.evaluation import run_notes
from analogmed.report.tables.evaluation_page import summary_table
from analogmed.report.writer import NAMES, write_report
from analogmed.tables.estimates import ENDS

pytestmark = pytest.mark.slow

main = partial(run_command, "report")

HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'


class Elements(HTMLParser):
    """Start tags with their attributes, and the text between tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def written(make_run, tmp_path_factory):
    """The three files of such a run, in its folder."""
    return write_report([make_run(tmp_path_factory.mktemp("written") / "run")])


@pytest.fixture(scope="module")
def page(written):
    return written[0].read_text(encoding="utf-8")


def page_of(run):
    return write_report([run])[0].read_text(encoding="utf-8")


def summary_row(**values):
    row = {
        "task": "lgg", "hardware": "pcm", "model": "unet", "training": "hwa", "dice_1d": 0.8,
        "dice_digital": 0.81, "dice_own_digital": 0.8,
        "normalised_dice_1d": 0.99, "normalised_dice_1d_low": 0.97, "normalised_dice_1d_high": 1.01,
        "n_patients": 20, "n_chips": 5, "level": 0.95,
    }  # fmt: skip
    return row | values


@pytest.fixture
def unknown(run):
    """Return a row of a summary with the columns of a run, all without a value."""
    return dict.fromkeys(pd.read_csv(run / "summary.csv").columns, np.nan)


def told(row, **tables):
    return findings(Run("run", "evaluation", tables={"summary": pd.DataFrame([row]), **tables}))[0]


def test_html_in_a_case_id_is_shown_as_it_is_written(page, make_run, tmp_path):
    hostile = page_of(make_run(tmp_path / "hostile", case=HOSTILE))
    harmless, found = Elements(page), Elements(hostile)
    assert found.tags == harmless.tags
    assert [name for name, _ in found.attributes] == [name for name, _ in harmless.attributes]
    assert "onerror" not in dict(found.attributes)
    assert "<script>alert" not in hostile and "<img" not in hostile
    assert HOSTILE in "".join(found.words)


def test_html_in_a_model_or_class_is_escaped_in_all_three_files(make_run, tmp_path):
    run = make_run(tmp_path / "run", classes=(HOSTILE, "b"))
    summary = pd.read_csv(run / "summary.csv")
    summary["model"] = summary["model"].replace("unet", "<b>unet_50%</b>")
    summary.to_csv(run / "summary.csv", index=False)
    page, markdown, latex = (path.read_text(encoding="utf-8") for path in write_report([run]))
    assert "<b>" not in page and "&lt;b&gt;unet_50%&lt;/b&gt;" in page
    assert r"\<b\>unet\_50%\</b\>" in markdown
    assert r"\textless{}b\textgreater{}unet\_50\%\textless{}/b\textgreater{}" in latex


def test_the_same_runs_give_the_same_bytes_in_any_folder(written, run, tmp_path):
    again = write_report([run], tmp_path / "elsewhere")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_the_page_names_no_address_to_load_from(page):
    assert (
        "http:" not in page
        and "https:" not in page
        and "//" not in re.sub(r"data:image/png;base64,[\w+/=]+|sha256-[\w+/=]+", "", page)
    )
    links = [v for k, v in Elements(page).attributes if k in ("src", "href", "action") and v]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


def test_every_link_and_label_points_at_one_element(make_run, tmp_path):
    runs = [make_run(tmp_path / name, planes=("axial", "coronal")) for name in ("a", "b")]
    attributes = Elements(write_report(runs)[0].read_text(encoding="utf-8")).attributes
    names = [value for key, value in attributes if key == "id"]
    assert len(names) == len(set(names))
    pointed = {v.removeprefix("#") for k, v in attributes if k == "href" and v.startswith("#")}
    pointed |= {value for key, value in attributes if key in ("for", "aria-labelledby")}
    assert pointed <= set(names)


def test_parts_stand_only_where_their_tables_are(page, run):
    for title in ("Comparison", "Dice drop over time", "Time to failure", "Example cases"):
        assert f">{title}" in page
    for name in ("curves", "comparison", "time_to_failure"):
        (run / f"{name}.csv").unlink()
    (run / "examples" / "0-worst.npz").unlink()
    part = page_of(run)
    assert ">Comparison<" in part and ">Dice drop of each network<" in part
    for title in ("Dice drop over time", "Time to failure", "Example cases"):
        assert title not in part


def test_a_training_run_and_an_evaluation_share_a_page(run, tmp_path):
    trained = tmp_path / "trained"
    trained.mkdir()
    log = {"epoch": [1, 2], "loss": [0.5, 0.4], "learning_rate": [0.1, 0.1], "dice": [np.nan, 0.7]}
    pd.DataFrame(log).to_csv(trained / "log.csv", index=False)
    page = write_report([run, trained], tmp_path / "page")[0].read_text(encoding="utf-8")
    assert "Evaluation: run" in page and "Training: trained" in page
    assert "Best validation Dice 0.700, after epoch 2." in page


DROPS = {"drop_1d": 0.4, "drop_1d_low": 0.3, "drop_1d_high": 0.5}
LITTLE = {"drop_1d": 0.01, "drop_1d_low": -0.01, "drop_1d_high": 0.03}


def test_the_first_finding_is_the_largest_drop_with_all_trainings_of_its_model():
    rows = [
        summary_row(hardware="reram", model="unetpp", training="digital", **LITTLE),
        summary_row(hardware="reram", **LITTLE),
        summary_row(hardware="reram", training="digital", **DROPS),
    ]
    tables = {"summary": pd.DataFrame(rows)}
    assert findings(Run("run", "evaluation", tables=tables))[0] == (
        "After a day on ReRAM chips, relative to digital training without a chip, the Dice of the "
        "digitally trained U-Net drops by 0.400 (95 % interval 0.300 to 0.500); that of the "
        "hardware-aware U-Net has no statistically distinguishable drop: 0.010 (95 % interval "
        "-0.010 to 0.030)."
    )


def test_a_network_that_has_not_learned_is_not_the_largest_drop():
    useless = {"model": "unetpp", "dice_digital": 0.3}
    rows = [summary_row(**LITTLE), summary_row(**useless, **DROPS)]
    tables = {"summary": pd.DataFrame(rows)}
    first = findings(Run("run", "evaluation", tables=tables))[0]
    finding, caution = first.split(". The ")
    assert "U-Net has no" in finding and "U-Net++" not in finding and "U-Net++" in caution


def test_a_network_that_is_better_on_the_chip_gains():
    gains = {"drop_1d": -0.02, "drop_1d_low": -0.03, "drop_1d_high": -0.01}
    assert told(summary_row(**gains)) == (
        "After a day on PCM chips, relative to digital training without a chip, the Dice of the "
        "hardware-aware U-Net rises by 0.020 (95 % interval 0.010 to 0.030)."
    )
    gains["note"] = "no digitally trained baseline: own digital run"
    assert told(summary_row(**gains)).startswith("After a day on PCM chips, the Dice of the")


def test_a_gain_whose_interval_includes_zero_is_not_distinguishable():
    sentence = told(summary_row(gain_1d=0.01, gain_1d_low=-0.01, gain_1d_high=0.03))
    assert sentence == (
        "After a day on the chip, the normalised Dice (on the chip / digital) of the "
        "hardware-aware U-Net is 0.99 (95 % interval 0.97 to 1.01); its Dice is not statistically "
        "distinguishable from that of the digitally trained one (20 patients and 5 chips)."
    )


def test_networks_that_are_not_distinguishable_share_a_sentence():
    gain = {"gain_1d": 0.01, "gain_1d_low": -0.01, "gain_1d_high": 0.03}
    models = {"unet": 0.9, "unetpp": 0.8, "swin_unetr": 0.7}
    rows = [summary_row(model=model, dice_1d=dice, **gain) for model, dice in models.items()]
    sentences = findings(Run("run", "evaluation", tables={"summary": pd.DataFrame(rows)}))
    assert len(sentences) == 2 and "of the hardware-aware U-Net is 0.99" in sentences[0]
    assert sentences[1] == (
        "The normalised Dice (on the chip / digital) of other networks trained for the chip is: "
        "U-Net++ 0.99 (0.97 to 1.01), Swin-UNETR 0.99 (0.97 to 1.01); they are not statistically "
        "distinguishable from the digitally trained ones (20 patients and 5 chips)."
    )
    rows[2] |= {"gain_1d_low": 0.005}
    sentences = findings(Run("run", "evaluation", tables={"summary": pd.DataFrame(rows)}))
    assert len(sentences) == 3 and "hardware-aware Swin-UNETR is 0.99" in sentences[2]
    assert "its Dice is better" in sentences[2]


def test_how_long_networks_hold_a_limit_is_one_sentence_longest_first():
    day_s, month_s = 86_400.0, 2_592_000.0
    row = {"limit": 0.76, "censored": False}
    holds = [
        row | {"model": "unet", "training": "digital", "holds_until_s": np.nan, "fails_at_s": 0.0},
        row | {"model": "unet", "training": "hwa", "holds_until_s": day_s, "fails_at_s": month_s},
        row | {"model": "unetpp", "training": "hwa", "holds_until_s": month_s, "censored": True},
        row
        | {"model": "dynunet", "training": "hwa", "holds_until_s": day_s, "fails_at_s": month_s},
    ]
    tables = {"summary": pd.DataFrame([summary_row(dice_digital=0.8)])}
    tables["time_to_failure"] = pd.DataFrame(holds)
    assert findings(Run("run", "evaluation", tables=tables))[-1] == (
        "Time to failure for a Dice of 0.76 (0.95 of the best digital one): more than 1 month, the "
        "end of the sweep, for the hardware-aware U-Net++; between 1 day and 1 month for the "
        "hardware-aware U-Net and hardware-aware DynUNet; none, as it is below the limit at t0, "
        "for the digitally trained U-Net."
    )


@pytest.mark.parametrize(("sign", "word"), [(1, "better"), (-1, "worse")])
def test_a_gain_beyond_zero_is_told_with_its_interval(sign, word):
    bounds = sorted([sign * 0.01, sign * 0.03])
    row = summary_row(gain_1d=sign * 0.02, gain_1d_low=bounds[0], gain_1d_high=bounds[1])
    expected = (
        f"; its Dice is {word} than that of the digitally trained one by 0.020 (95 % interval "
        "0.010 to 0.030)."
    )
    assert expected in told(row)


def test_a_small_p_value_is_written_without_an_equals_sign():
    row = summary_row(gain_1d=0.02, gain_1d_low=0.01, gain_1d_high=0.03)
    pair = {
        "task": "lgg", "hardware": "pcm", "model": "unet", "training": "digital",
        "other_model": "unet", "other_training": "hwa", "p_holm": 0.0001,
    }  # fmt: skip
    assert "(p < 0.001 over patients" in told(row, comparison=pd.DataFrame([pair]))


@pytest.mark.parametrize(("sign", "word"), [(1, "higher"), (-1, "lower")])
def test_what_a_mitigation_gains_or_costs_has_its_interval(sign, word):
    low, high = sorted([sign * 0.04, sign * 0.06])
    row = {
        "task": "lgg", "model": "unet", "training": "digital", "option": "batchnorm",
        "metric": "dice", "time_s": 86_400.0, "gain": sign * 0.05, "gain_low": low,
        "gain_high": high, "level": 0.95,
    }  # fmt: skip
    run = Run("run", "mitigation", tables={"summary": pd.DataFrame([row])})
    assert findings(run) == [
        f"1 day after programming, the Dice of the digitally trained U-Net is {word} by 0.050 "
        "(95 % interval 0.040 to 0.060) with BatchNorm statistics of the chip than with drift "
        "compensation alone."
    ]


def test_a_gain_that_does_not_outlive_the_correction_is_no_finding():
    row = summary_row(gain_1d=0.02, gain_1d_low=0.01, gain_1d_high=0.03)
    pair = {
        "task": "lgg", "hardware": "pcm", "model": "unet", "training": "digital",
        "other_model": "unet", "other_training": "hwa", "p_holm": 0.2,
    }  # fmt: skip
    sentence = told(row, comparison=pd.DataFrame([pair]))
    assert "not beyond chance" in sentence and "p = 0.200" in sentence
    certain = told(row, comparison=pd.DataFrame([pair | {"p_holm": 0.01}]))
    assert "beyond chance" not in certain and "p = 0.010" in certain


def test_a_share_of_a_useless_digital_dice_is_no_praise():
    useless = {"dice_digital": 0.05, "dice_own_digital": 0.04, "dice_1d": 0.05}
    gain = {"gain_1d": 0.0, "gain_1d_low": -0.01, "gain_1d_high": 0.01}
    digital = {"training": "digital", "gain_1d": np.nan}
    reason = (
        "The digital Dice of the U-Net is 0.05, below 0.5, so a drop means little and the "
        "normalised Dice is not stated."
    )
    assert told(summary_row(**useless, **digital)) == (
        "After a day on the chip, the Dice of the digitally trained U-Net is 0.05. " + reason
    )
    assert told(summary_row(**useless, **gain)) == (
        "After a day on the chip, the Dice of the hardware-aware U-Net is 0.05; its Dice is not "
        "statistically distinguishable from that of the digitally trained one (20 patients and 5 "
        "chips). " + reason
    )


def test_of_several_digitally_trained_networks_only_those_that_learned_are_told_by_shares():
    rows = [
        summary_row(model=model, training="digital", dice_digital=dice, gain_1d=np.nan)
        for model, dice in (("unet", 0.8), ("unetpp", 0.5), ("swin_unetr", 0.49))
    ]
    sentences = findings(Run("run", "evaluation", tables={"summary": pd.DataFrame(rows)}))
    assert sentences == [
        "After a day on the chip, the Dice of the digitally trained Swin-UNETR is 0.80. The "
        "digital Dice of the Swin-UNETR is 0.49, below 0.5, so a drop means little and the "
        "normalised Dice is not stated.",
        "Without training for the chip, the normalised Dice (on the chip / digital) after a day "
        "is: U-Net 0.99 (0.97 to 1.01), U-Net++ 0.99 (0.97 to 1.01).",
    ]


@pytest.mark.parametrize(("best", "limit"), [(0.8, 0.76), (0.05, 0.0475)])
def test_a_limit_is_explained_and_none_is_praised_that_useless_networks_hold(best, limit):
    row = summary_row(dice_digital=best / 2, dice_own_digital=best)
    holds = {
        "model": "unet", "training": "hwa", "limit": limit, "censored": True,
        "holds_until_s": 2_592_000.0, "fails_at_s": np.nan,
    }  # fmt: skip
    tables = {"summary": pd.DataFrame([row]), "time_to_failure": pd.DataFrame([holds])}
    said = " ".join(findings(Run("run", "evaluation", tables=tables)))
    praise = (
        "Time to failure for a Dice of 0.76 (0.95 of the best digital one): more than 1 month, "
    )
    praise += "the end of the sweep, for the hardware-aware U-Net."
    assert (praise in said) == (best > 0.5)
    assert ("Time to failure" in said) == (best > 0.5)


def test_the_page_says_what_the_limit_is_of_the_best_digital_dice(page, run):
    best = pd.read_csv(run / "summary.csv")[["dice_digital", "dice_own_digital"]].max(axis=None)
    assert f"a Dice of 0.70 ({0.7 / best:.2f} of the best digital one)" in page


def test_one_pair_is_one_pair(page, run):
    assert "correction for 15 pairs." in page
    comparison = pd.read_csv(run / "comparison.csv")
    comparison[:1].to_csv(run / "comparison.csv", index=False)
    assert "correction for 1 pair." in page_of(run)


def test_a_training_without_an_epoch_has_no_curves(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,step,loss,learning_rate,dice,seconds\n")
    page = page_of(tmp_path)
    assert "No epoch is done yet." in page
    assert "Loss and validation Dice" not in page


def test_one_chip_gives_no_interval_and_says_so():
    nothing = {
        f"{n}_{end}": np.nan for n in ("normalised_dice_1d", "gain_1d") for end in ("low", "high")
    }
    sentence = told(summary_row(gain_1d=0.02, n_chips=1, **nothing))
    assert "no interval: too few patients or chips" in sentence
    assert "not statistically distinguishable" not in sentence and "better than" not in sentence


def test_a_folder_that_is_no_run_is_refused_with_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"no run folder: expected one of .*summary.csv"):
        read_run(tmp_path)
    with pytest.raises(DataError, match="missing: no such folder; check the path"):
        read_run(tmp_path / "missing")
    (tmp_path / "summary.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is no run folder"):
        read_run(tmp_path)
    with pytest.raises(DataError, match=r"summary\.csv: a file, not a folder"):
        read_run(tmp_path / "summary.csv")
    assert main([str(tmp_path / "missing")]) == 1
    assert not (tmp_path / "missing").exists()
    with pytest.raises(ConfigError, match="no run folder is given"):
        write_report([])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n1,"2\n'])
def test_a_damaged_table_is_refused_with_its_path(run, content):
    (run / "curves.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"curves\.csv is damaged"):
        read_run(run)


def test_damaged_settings_and_environments_are_refused(run):
    (run / "environment.json").write_text("{")
    with pytest.raises(DataError, match=r"environment\.json, line 1: not JSON"):
        read_run(run)
    (run / "environment.json").write_text("[]")
    with pytest.raises(DataError, match=r"environment\.json: expected a JSON object, got list"):
        read_run(run)
    (run / "environment.json").unlink()
    (run / "experiment.yaml").write_text("seed: !!python/object:os.system {}\n")
    with pytest.raises(DataError, match=r"experiment\.yaml"):
        read_run(run)


def test_pickled_and_misshapen_examples_are_refused(run):
    path = run / "examples" / "0-worst.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"label_slice": arrays["label_slice"][:5]})
    with pytest.raises(DataError, match=r"0-worst\.npz is no example case: .*has shape"):
        read_run(run)
    np.savez(path, **arrays | {"label_slice": np.array([object()])})
    with pytest.raises(DataError, match="allow_pickle"):
        read_run(run)
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match="is no example case"):
        read_run(run)


def test_a_case_called_na_keeps_its_name(run):
    summary = pd.read_csv(run / "summary.csv")
    summary["model"] = summary["model"].replace("unet", "NA")
    summary.to_csv(run / "summary.csv", index=False)
    assert "NA" in set(read_run(run).tables["summary"]["model"])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (7, 3)])
def test_the_outline_of_a_rectangle_has_its_area_less_the_corners(height, width):
    mask = np.zeros((10, 12), bool)
    mask[2 : 2 + height, 4 : 4 + width] = True
    start, *steps = re.findall(r"-?\d+ -?\d+", contour_path(mask))
    moves = np.array([list(map(int, step.split())) for step in (start, *steps)])
    x, y = moves.cumsum(axis=0).T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    half_pixels = 4
    assert area == half_pixels * (height * width - 4 * 0.125)
    center = (x.min() + x.max()) / 4, (y.min() + y.max()) / 4
    assert center == (4 + width / 2, 2 + height / 2)


def test_a_hole_and_a_second_part_have_outlines_of_their_own():
    mask = np.ones((9, 20), bool)
    mask[3:6, 3:6] = False
    mask[:, 12] = False
    assert contour_path(mask).count("M") == 3
    assert contour_path(np.zeros((4, 4), bool)) == ""


def test_large_pictures_are_made_smaller_and_contours_are_not(make_run, tmp_path):
    run = make_run(tmp_path / "run", variance=True)
    path = run / "examples" / "0-worst.npz"
    with np.load(path) as file:
        arrays = dict(file)
    maps = [k for k in arrays if k.endswith("_slice") and not k.startswith("spacing")]
    large = {name: arrays[name].repeat(40, -1).repeat(40, -2) for name in maps}
    np.savez(path, **arrays | large)
    plane = case_view(read_example_cases(run))["cases"][0]["planes"]["slice"]
    for uri in (plane["images"][0], plane["uncertainty"][0][1]):
        data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
        assert Image.open(BytesIO(data)).size == (MOST_PIXELS, 192)
    assert (plane["width"], plane["height"]) == (32 * 40, 24 * 40)
    corners = [int(n) for n in re.findall(r"-?\d+", plane["reference"][0])]
    assert max(map(abs, corners)) > 2 * 300


def test_all_trainings_of_a_model_are_shown_together(make_run, tmp_path):
    (case,) = read_example_cases(make_run(tmp_path / "run", models=("unet", "unetpp")))
    view = case_view([case])
    assert (view["models"], view["groups"]) == (["U-Net", "U-Net++"], [[0, 1], [2, 3]])
    odd = replace(case, networks=(*case.networks[:3], ("swin_unetr", "hwa")))
    assert case_view([odd])["groups"] == [[0, 1], [2], [3]]


def test_examples_of_an_uncertainty_run_are_read_with_their_variance(tmp_path):
    arrays, rows = {}, []
    for place in ("best", "worst"):
        arrays[f"{place}_image"] = np.zeros((4, 6, 2), np.float32)
        arrays[f"{place}_reference"] = np.ones((4, 6), np.uint8)
        for number, (source, time_s) in enumerate([("deterministic", np.nan), ("chips", 0.0)]):
            name = f"{place}_{number}"
            arrays[f"{name}_prediction"] = np.full((4, 6), number, np.uint8)
            arrays[f"{name}_variance"] = np.full((4, 6), 0.01 * number, np.float32)
            row = {"rank": place, "case": "NA", "name": name, "task": "lgg", "model": "unet"}
            rows.append(row | {"training": "hwa", "source": source, "time_s": time_s})
    np.savez(tmp_path / "examples.npz", **arrays)
    pd.DataFrame(rows).to_csv(tmp_path / "examples.csv", index=False)
    cases = read_example_cases(tmp_path)
    assert [case.place for case in cases] == ["worst", "best"]
    assert cases[0].case == "NA"
    part = cases[0].slices["slice"]
    assert part.digital.max() == 0 and part.pred.min() == 1
    assert part.variance == pytest.approx(np.full((1, 1, 4, 6), 0.01))
    assert case_view(cases)["highest"] == pytest.approx(0.1)


def test_the_report_imports_no_torch():
    code = (
        "import sys, analogmed.report.__main__;"
        "print([m for m in ('torch', 'monai', 'aihwkit') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_program_writes_into_the_run_or_elsewhere_and_tells_errors(run, tmp_path, capsys):
    assert main([str(run)]) == 0
    assert all((run / name).is_file() for name in NAMES)
    assert main([str(run), "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "report.html").read_bytes() == (run / "report.html").read_bytes()
    capsys.readouterr()
    assert main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert main([str(run), "--out", str(run / "summary.csv" / "x")]) == 2


def test_the_page_says_how_to_run_it_again(page):
    words = "".join(Elements(page).words)
    assert "analogmed eval --config experiment.yaml --out runs/run-again" in words
    assert "python -m analogmed.eval --seed 0" in words
    assert "# with analogmed 0.1.0" in words


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/usr/bin/analogmed", "# analogmed demo --seed 3"),
        ("/lib/analogmed/__main__.py", "# analogmed demo --seed 3"),
        ("/lib/analogmed/eval/__main__.py", "# python -m analogmed.eval demo --seed 3"),
    ],
)
def test_a_run_is_called_again_by_the_program_that_made_it(program, expected):
    environment = {"command": [program, "demo", "--seed", "3"]}
    (_, text), _ = files_of(Run("run", "evaluation", environment=environment))
    assert text.endswith(expected)


def test_the_page_names_no_folder_of_the_machine_of_the_run(run):
    environment = json.loads((run / "environment.json").read_text())
    environment["command"] = ["/home/me/bin/eval.py", "--task.root=/data/lgg", "--out", "/tmp/a/b"]
    (run / "environment.json").write_text(json.dumps(environment))
    settings = (run / "experiment.yaml").read_text()
    settings = settings.replace("checkpoints: []", "checkpoints:\n- /home/me/unet.safetensors")
    (run / "experiment.yaml").write_text(settings)
    words = "".join(Elements(page_of(run)).words)
    assert "python -m analogmed.eval --task.root=path/to/lgg --out path/to/b" in words
    assert "- path/to/unet.safetensors" in words
    assert "/home/me" not in words and "/data/" not in words and "/tmp/a" not in words


def test_synthetic_images_are_named_in_title_caption_and_footer(make_run, tmp_path):
    real = make_run(tmp_path / "real")
    settings = (real / "experiment.yaml").read_text().replace("phantom_brain", "lgg")
    (real / "experiment.yaml").write_text(settings)
    words = "".join(Elements(page_of(real)).words).replace("is_synthetic", "")
    assert "ynthetic" not in words and "Research use only" in words
    run = make_run(tmp_path / "phantom", case="TCGA_PH_0007_20000101")
    words = "".join(Elements(page_of(run)).words)
    assert "Brain phantom (synthetic data) on PCM chips" in words
    assert "synthetic, PH_0007" in words and "TCGA" not in words
    assert "The data of Brain phantom are synthetic: they show no patient." in words
    assert all("are synthetic" in (run / name).read_text() for name in NAMES)


def test_the_cases_start_at_the_largest_loss(make_run, tmp_path):
    (case,) = read_example_cases(make_run(tmp_path / "run", models=("unet", "unetpp")))
    dice = np.full((4, 3), 0.9)
    dice[2, 1] = 0.2
    start = case_view([replace(case, dice_digital=np.full(4, 0.9), dice=dice)])["start"]
    assert (start["model"], start["stop"]) == (1, 2)
    unknown = case_view([replace(case, dice=np.full((4, 3), np.nan))])["start"]
    assert (unknown["model"], case_view([case])["stops"][unknown["stop"]]) == (0, "1 day")


def test_cautions_on_few_patients_and_an_uncertain_digital_value_follow_the_finding(unknown):
    row = unknown | summary_row(
        n_patients=3, dice_digital=0.6, dice_digital_low=0.2, dice_digital_high=0.9,
        normalised_dice_1d=1.19, normalised_dice_1d_low=0.48, normalised_dice_1d_high=1.9,
    )  # fmt: skip
    reason = (
        "digital Dice{} is itself uncertain, 0.60 (95 % interval 0.20 to 0.90), so the normalised "
        "Dice is not stated."
    )
    caution = (
        f" The {reason.format(' of the U-Net')} Only 3 patients: the intervals include the true "
        "value less often than 95 %. Evaluate at least 20 patients."
    )
    run = Run("run", "evaluation", tables={"summary": pd.DataFrame([row])})
    value = "After a day on the chip, the Dice of the hardware-aware U-Net is 0.80."
    assert findings(run) == [value + caution]
    rows = {"drift_drop": 0.3, "drift_drop_low": 0.2, "drift_drop_high": 0.4, "metric": "dice"}
    rows |= {name: row[name] for name in ("task", "hardware", "model", "training")}
    run.tables["curves"] = pd.DataFrame([rows | {"time_s": 0.0}, rows | {"time_s": 3_600.0}])
    assert findings(run)[0] == (
        "After 1 h on PCM chips, relative to digital training without a chip, the Dice of the "
        f"hardware-aware U-Net drops by 0.300 (95 % interval 0.200 to 0.400).{caution}"
    )
    table = summary_table(run.tables["summary"], None, "dice")
    shown = dict(zip(table.heads, map(str, table.rows[0]), strict=True))
    assert shown["normalised, 1 day"] == "not stated" and reason.format(" of the U-Net") in (
        table.caption
    )
    assert f"unet, hwa: the {reason.format('')}" in run_notes(pd.DataFrame([row | {"note": ""}]))


@pytest.mark.parametrize("classes", [("tumour",), ("spleen", "liver")])
def test_a_legend_has_each_colour_once(make_run, tmp_path, classes):
    """With several classes, reference and prediction differ by their line alone."""
    page = page_of(make_run(tmp_path / "run", classes=classes))
    legend = re.findall(r'aria-hidden="true"><path class="([^"]+)"', page)
    several = ["reference any", "prediction any", "reference class0", "reference class1"]
    assert legend == (several if len(classes) == 2 else ["reference ", "prediction "])


def test_only_columns_of_the_table_are_explained(unknown):
    row = unknown | summary_row()
    words = "Gain of training", "t0:", "p: of", "Missed:"
    caption = summary_table(pd.DataFrame([row]), None, "dice").caption
    assert not any(word in caption for word in words) and "Normalised Dice: Dice on" in caption
    row |= {f"{name}{end}": 0.1 for name in ("dice_t0", "gain_1d") for end in ENDS}
    caption = summary_table(
        pd.DataFrame([row | {"missed": 1, "missed_of": 2}]), None, "dice"
    ).caption
    assert [word in caption for word in words] == [True, True, False, True]


def test_credentials_of_a_run_of_an_older_version_are_not_on_the_page(run):
    """Earlier versions wrote them into its files."""
    url = "s3://KEY:SECRET@bucket/sweep"
    for name, old, new in (
        ("experiment.yaml", "store: null", f"store: {url}"),
        ("environment.json", '"--seed", "0"', f'"--store", "{url}"'),
    ):
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))
    texts = [path.read_text(encoding="utf-8") for path in write_report([run])]
    assert not any("SECRET" in text for text in texts)
    assert texts[0].count("s3://***@bucket/sweep") == 3


def test_script_data_cannot_end_its_element(make_run, tmp_path):
    page = page_of(make_run(tmp_path / "run", case="</script><script>alert(1)</script>"))
    data = re.search(r'<script type="application/json" id="[\w-]+">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data[1])["cases"][0]["case"] == "</script><script>alert(1)</script>"
