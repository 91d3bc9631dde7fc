"""The result of robustness() as text, in a notebook, and as a page."""

import html
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import analogmed as am
from analogmed.foundation.errors import ConfigError
from analogmed.report.robustness import Robustness

ESTIMATE = r"-?\d\.\d{3} \(-?\d\.\d{3} to -?\d\.\d{3}\)"


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    path = result.report(tmp_path_factory.mktemp("page") / "page.html")
    return path.read_text(encoding="utf-8")


def test_the_text_has_each_interval_with_its_estimate_in_80_columns(result):
    text = str(result)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(rf"^1 day +{ESTIMATE} +{ESTIMATE}$", text, re.MULTILINE)
    assert re.search(rf"^digital +{ESTIMATE} +\u2013$", text, re.MULTILINE)
    words = " ".join(text.split())
    assert "Dice of Sequential on PCM chips" in words
    assert "with its 95 % confidence interval from a two-way bootstrap over patients" in words
    assert "Drop: Dice digital minus on the chip, paired by patient" in words


def test_a_changed_chip_is_named_with_its_changes(result):
    changed = {"hardware": {"preset": "pcm", "dac_steps": 62, "out_noise": 0.1}}
    text = Robustness(result.curves, False, (), changed).text()
    assert "The chips differ from their preset: dac_steps 62, out_noise 0.1." in text
    assert "differ from their preset" not in str(result)


def test_a_rise_without_an_interval_is_no_drop(result):
    unknown = {"drift_drop": -0.01, "drift_drop_low": np.nan, "drift_drop_high": np.nan}
    text = Robustness(result.curves.assign(**unknown), False, (), {}).text()
    assert "Dice does not drop at any measured time." in text and "largest drop" not in text


def test_a_notebook_shows_the_same_table_with_its_explanation(result):
    view = html.unescape(result._repr_html_())
    cells = re.findall(r"<td>(.*?)</td>", view)
    assert len(cells) == 9 and cells[:1] == ["digital"]
    assert all(re.fullmatch(ESTIMATE, cell) for cell in (*cells[4:6], *cells[7:9]))
    assert "confidence interval" in view and "paired by patient" in view
    assert repr(result) == str(result)


def test_the_page_has_the_table_the_figure_and_how_it_was_made(page, result):
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    day = result.table.loc["1 day"]
    assert f"{day['dice']:.3f} {day['low']:.3f} to {day['high']:.3f}" in text
    assert "The largest drop of Dice" in text and "5 patients, 3 chips" in text
    for name, value in (
        ("network", "Sequential"),
        ("metric", "dice"),
        ("patients", "each image counts as a patient"),
        ("times", "t0, 1 day"),
        ("hardware", "pcm"),
        ("chips", "3"),
        ("root seed", "0"),
    ):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page
    for name in ("analogmed", "torch", "aihwkit", "run at"):
        assert f"<dt>{name}</dt>" in page
    assert page.count("<svg") >= 2


def test_the_page_needs_no_network(page):
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)


def test_the_calls_on_the_page_compute_the_result_again(page, result, network, images, labels):
    (calls,) = re.findall(r"<pre[^>]*>(analog = .*?)</pre>", page, re.DOTALL)
    names = {"am": am, "network": network, "training_loader": [images]}
    names["loader"] = [(images, labels)]
    exec(html.unescape(calls), names)
    np.testing.assert_array_equal(names["result"].values["value"], result.values["value"])


def overlap_error(prediction, reference):
    return (prediction != reference).float().mean()


def test_the_calls_have_all_that_changes_the_result(network, images, labels, tmp_path):
    analog = am.convert(network, "pcm", digital_layers=["2"], row_split="channels", backend="torch")
    batches = [{"x": images, "y": labels}]
    run = am.robustness(
        am.calibrate(analog, [images]),
        batches,
        metric=overlap_error,
        lower_is_better=False,
        keys=("x", "y"),
        times="1 day",
        chips=1,
    )
    page = html.unescape(run.report(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "<dt>digital layers</dt><dd>2</dd>" in page
    (calls,) = re.findall(r"<pre[^>]*>(analog = .*?)</pre>", page, re.DOTALL)
    names = {"am": am, "network": network, "training_loader": [images], "loader": batches}
    exec(calls, names | {"overlap_error": overlap_error}, again := {})
    np.testing.assert_array_equal(again["result"].values["value"], run.values["value"])
    pd.testing.assert_frame_equal(again["result"].table, run.table)


def test_changes_of_the_hardware_and_notes_are_on_the_page(images, labels, tmp_path):
    hardware = am.create_rpu_config("hermes", out_noise=0.02)
    analog = am.calibrate(am.convert(nn.Conv2d(1, 3, 1), hardware), [images])
    run = am.robustness(
        analog, [(images, labels)], times="1 year", chips=1, seed=4, patients=range(5)
    )
    page = html.unescape(run.report(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "<dt>hardware settings</dt><dd>out_noise=0.02</dd>" in page
    assert "am.convert(network, {'preset': 'hermes', 'out_noise': 0.02})" in page
    assert "times=['1 year'], chips=1, seed=4, patients=patients)" in page
    assert "class 2: in no reference" in page and "no intervals" in page


def test_a_class_that_is_not_found_is_named_and_each_class_has_its_scores(images, labels, tmp_path):
    """A network with a fixed bias never predicts its second class."""
    net = nn.Conv2d(1, 3, 1)
    with torch.no_grad():
        net.weight[:, 0, 0, 0] = torch.tensor([0.0, 1.0, 0.0])
        net.bias[:] = torch.tensor([0.5, 0.0, -9.0])
    labels = labels[:, 0].long()
    labels[:, :8, :8] = 2
    analog = am.calibrate(am.convert(net, "pcm"), [images])
    run = am.robustness(analog, [(images, labels)], times="1 day", chips=2)
    found = run.class_scores
    of_class = run.values.groupby(["hardware", "class"])["value"].mean()
    (digital, on_chip) = (found[found["hardware"] == name] for name in ("digital", "pcm"))
    assert digital["estimate"].tolist() == pytest.approx(of_class["digital"].tolist())
    assert on_chip["estimate"].tolist() == pytest.approx(of_class["pcm"].tolist())
    sentence = (
        "The digital Dice of class 2 is 0.000 (95 % interval 0.000 to 0.000), at most 0.05 above 0"
    )
    level = (
        f"The digital Dice is {of_class['digital'].mean():.2f}, below 0.5, so a drop means little."
    )
    page = run.report(tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (str(run), html.unescape(run._repr_html_()), html.unescape(page)):
        words = " ".join(text.split())
        assert sentence in words and level in words and "of class 1" not in words
        assert "Dice of each class" in words
    assert max(map(len, str(run).splitlines())) <= 80


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_the_findings_name_a_rise_whose_interval_excludes_0(result, lower_is_better):
    """The score changes by -0.02 right after programming, and by 0.3 after a day."""
    values = result.values.copy()
    digital = values[values["hardware"] == "digital"].set_index("case")["value"]
    change = values["time_s"].map({0.0: -0.02, 86_400.0: 0.3}).fillna(0.0)
    values["value"] = digital.loc[values["case"]].to_numpy() + change.to_numpy()
    found = replace(result, values=values, lower_is_better=lower_is_better)
    words = " ".join(str(found).split())
    drop, rise = (0.3, 0.02) if lower_is_better else (0.02, 0.3)
    first, last = "right after programming", "1 day after programming"
    first, last = (last, first) if lower_is_better else (first, last)
    word = "rise" if lower_is_better else "drop"
    assert f"The largest {word} of Dice, {first}, is {drop:.3f} (95 % interval" in words
    assert (
        f"The largest improvement of Dice on the chip over digital, {last}, is {rise:.3f}" in words
    )
    at_day = values["time_s"].isna() | (values["time_s"] > 0)
    only = " ".join(str(replace(found, values=values[at_day])).split())
    assert (f"Dice does not {word} at any measured time." in only) == (not lower_is_better)


def test_a_page_is_named_html(result, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.html, got '.*page\.pdf'"):
        result.report(tmp_path / "page.pdf")


def test_times_are_shown_in_the_words_of_the_user(analog, images, labels, tmp_path):
    run = am.robustness(analog, [(images, labels)], times=["0 s", "24  h", "30 days"], chips=2)
    assert list(run.table.index) == ["digital", "t0", "24 h", "30 days"]
    figure = run.plot(tmp_path / "figure.svg").read_text(encoding="utf-8")
    page = run.report(tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (str(run), run._repr_html_(), figure, page):
        assert "30 days" in text and "24 h" in text
        assert "month" not in text and "1 day" not in text
    assert "times=['t0', '24 h', '30 days']" in html.unescape(page)
