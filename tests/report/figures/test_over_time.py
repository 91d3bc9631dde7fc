import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.time_constants import time_label
from analogmed.report import drop_per_model, metric_over_time


@pytest.fixture(params=["curves", "drops"])
def draw(request):
    """Draws one of the two figures from its table."""
    table, function = {
        "curves": ("curves", metric_over_time),
        "drops": ("summary", drop_per_model),
    }[request.param]
    frame = request.getfixturevalue(table)
    return lambda path, frame=frame: function(frame, path)


def colors_in(path):
    with Image.open(path) as image:
        return {color for _, color in image.convert("RGB").getcolors(maxcolors=2**20)}


def test_a_figure_is_1200_pixels_wide(draw, tmp_path):
    path = draw(tmp_path / "figure.png")
    with Image.open(path) as image:
        assert image.width == 1200


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_table_gives_the_same_bytes(draw, tmp_path, suffix):
    first, second = draw(tmp_path / f"a{suffix}"), draw(tmp_path / f"b{suffix}")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_a_figure_carries_no_date(draw, tmp_path):
    with Image.open(draw(tmp_path / "figure.png")) as image:
        assert set(image.info) <= {"dpi"}
    assert b"<dc:date>" not in draw(tmp_path / "figure.svg").read_bytes()


def test_another_format_is_refused_and_nothing_is_written(draw, tmp_path):
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        draw(tmp_path / "figure.gif")
    assert list(tmp_path.iterdir()) == []


def test_an_old_figure_outlives_a_failed_drawing(tmp_path, summary):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    with pytest.raises(DataError):
        drop_per_model(summary.drop(columns="noise_drop"), path)
    assert path.read_bytes() == b"old"


@pytest.mark.slow
def test_names_with_dollar_signs_are_not_read_as_formulas(tmp_path, curves, summary):
    for index, (draw, table) in enumerate([(metric_over_time, curves), (drop_per_model, summary)]):
        odd = table.assign(model="$" + table["model"] + "_{", task="$x^")
        draw(odd, tmp_path / f"{index}.png")


def test_names_are_those_that_a_reader_knows(draw, curves, tmp_path):
    text = draw(tmp_path / "figure.svg").read_text()
    assert "U-Net" in text and "unet" not in text
    assert "LGG on PCM" in text and "pcm" not in text


class TestCurves:
    @pytest.mark.slow
    def test_both_trainings_and_their_baselines_are_drawn_in_their_colors(self, tmp_path, curves):
        orange, blue = (222, 143, 5), (1, 115, 178)
        both = colors_in(metric_over_time(curves, tmp_path / "both.png"))
        assert {orange, blue} <= both
        hwa_only = curves[curves["training"] == "hwa"]
        assert orange not in colors_in(metric_over_time(hwa_only, tmp_path / "hwa.png"))

    @pytest.mark.slow
    def test_curves_without_a_baseline_without_t0_or_with_one_time_are_drawn(
        self, tmp_path, curves
    ):
        on_chip = curves[curves["hardware"] == "pcm"]
        for index, kept in enumerate(
            [on_chip, on_chip[on_chip["time_s"] > 0], on_chip[on_chip["time_s"] == 0]]
        ):
            assert metric_over_time(kept, tmp_path / f"{index}.png").stat().st_size > 5_000

    def test_curves_of_digital_runs_only_are_refused(self, tmp_path, curves):
        with pytest.raises(DataError, match="no row measured on a chip"):
            metric_over_time(curves[curves["hardware"] == "digital"], tmp_path / "x.png")


class TestDrops:
    def test_every_time_has_its_color(self, tmp_path, summary):
        colors = {(42, 157, 143), (117, 102, 201), (181, 72, 127)}
        assert colors <= colors_in(drop_per_model(summary, tmp_path / "all.png"))
        summary[["drop_1mo", "drop_1mo_low", "drop_1mo_high"]] = np.nan
        without = colors_in(drop_per_model(summary, tmp_path / "without.png"))
        assert colors - without == {(181, 72, 127)}

    def test_a_model_missing_from_one_task_leaves_its_place_empty(self, tmp_path, summary):
        other = summary[summary["model"] == "unet"].assign(task="spleen")
        assert drop_per_model(pd.concat([summary, other]), tmp_path / "x.png").exists()

    def test_a_summary_without_a_baseline_is_refused(self, tmp_path, summary):
        summary[["noise_drop", "drop_1d", "drop_1mo"]] = np.nan
        with pytest.raises(DataError, match="evaluate the digital baseline"):
            drop_per_model(summary, tmp_path / "x.png")


@pytest.mark.parametrize(
    ("time_s", "label"),
    [(0.0, "t0"), (20.0, "20 s"), (2_592_000.0, "1 month"), (172_800.0, "2 days")],
)
def test_times_have_short_names(time_s, label):
    assert time_label(time_s) == label


def test_the_report_imports_neither_torch_nor_aihwkit():
    code = (
        "import sys, analogmed.report; "
        "print(sorted({'torch', 'monai', 'aihwkit'} & {m.split('.')[0] for m in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
