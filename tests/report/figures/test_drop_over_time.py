from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from analogmed.evaluation.summaries.chip_losses import chip_losses
from analogmed.foundation.errors import DataError
from analogmed.report.figures.drop_over_time import are_several, drop_over_time
from analogmed.report.figures.panels import TimeAxis, sample_caption
from analogmed.report.figures.style import WIDTH_IN, publication_style
from analogmed.report.page.drops import unclear_drop


def test_every_single_chip_has_a_thin_line(tmp_path, curves, _results):
    of_unet = curves[curves["model"] == "unet"]
    chips = chip_losses(_results)
    chips = chips[chips["model"] == "unet"]
    lines = [
        drop_over_time(of_unet, tmp_path / f"{name}.svg", chips=given).read_text().count("<path")
        for name, given in {"none": None, "all": chips, "three": chips[chips["chip"] < 3]}.items()
    ]
    assert lines[1] - lines[2] == 2
    assert lines[1] > lines[0]
    assert [are_several(chips[chips["chip"] < n]) for n in (1, 2)] == [False, True]


def test_a_mark_is_explained_where_it_is_drawn(curves):
    chip = curves[curves["time_s"].notna()]
    sizes = "6 patients and 4 chips"
    caption = sample_caption(chip, "Whiskers:", ["drift_drop_low"])
    assert caption == f"Whiskers: 95 % bootstrap interval over {sizes}"
    alone = chip.assign(drift_drop_low=np.nan)
    caption = sample_caption(alone, "Whiskers:", ["drift_drop_low"])
    assert caption == f"No intervals: {sizes} are too few"
    assert unclear_drop("drop", alone["drift_drop_low"]) == ""


def test_curves_without_a_digital_run_are_refused(tmp_path, curves):
    curves[["drift_drop", "drift_drop_low", "drift_drop_high"]] = np.nan
    with pytest.raises(DataError, match="evaluate the digital baseline"):
        drop_over_time(curves, tmp_path / "x.png")


@pytest.mark.parametrize("width_in", [3.1, WIDTH_IN])
@pytest.mark.parametrize("panels", [1, 3])
def test_labels_of_times_do_not_overlap(width_in, panels):
    times_s = [0.0, 1.0, 60.0, 3_600.0, 21_600.0, 86_400.0, 172_800.0, 604_800.0, 2_592_000.0]
    with publication_style():
        figure = Figure(figsize=(width_in, 3.0), layout="constrained")
        axes = figure.subplots(1, panels if width_in == WIDTH_IN else 1, squeeze=False).ravel()
        for one in axes:
            TimeAxis(times_s, panels=panels, width_in=width_in).decorate(one)
            one.set_ylabel("Dice lost")
        figure.canvas.draw()
        labels = [label for label in axes[0].get_xticklabels() if label.get_text()]
        assert len(labels) >= 3
        if labels[0].get_rotation():
            places = np.array([label.get_window_extent().x1 for label in labels])
            assert np.diff(places).min() >= labels[0].get_fontsize() * figure.dpi / 72
        else:
            ends = [label.get_window_extent() for label in labels]
            assert all(one.x1 < two.x0 for one, two in pairwise(ends))
