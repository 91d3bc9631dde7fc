"""Figures at the width of a phone: all text is inside, and numbers of points do not touch."""

import importlib
from itertools import pairwise

import pytest
from matplotlib.axis import Tick
from matplotlib.text import Annotation, Text

from analogmed.report import figures
from analogmed.report.figures.style import WIDTH_IN
from analogmed.report.page.sections import NARROW_IN

FIGURES = {
    "training_curves": ("training", "training", "log"),
    "mitigation_gains": ("mitigation", "mitigation", "summary"),
    "sensitivity_heat_map": ("sensitivity", "sensitivity", "ranking"),
    "source_bars": ("sensitivity", "sensitivity", "ranking"),
    "placement_curve": ("sensitivity", "placement", "placements"),
}
"""Module, kind of run and table of each figure."""


@pytest.fixture
def texts_of(monkeypatch):
    """Draws a figure and returns it with its texts, except labels of ticks, and their boxes."""

    def draw(name, table, width_in):
        module = importlib.import_module(f"{figures.__name__}.{FIGURES[name][0]}")
        drawn = []
        monkeypatch.setattr(module, "save_figure", lambda figure, path: drawn.append(figure))
        getattr(module, name)(table, "figure.svg", width_in=width_in)
        (figure,) = drawn
        figure.draw_without_rendering()
        ticks = {label for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
        texts = [text for text in figure.findobj(Text) if text not in ticks and text.get_text()]
        return figure, [(text, text.get_window_extent()) for text in texts]

    return draw


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_figure_for_a_phone_is_cut_off(texts_of, tables_of, name):
    _, kind, table = FIGURES[name]
    figure, texts = texts_of(name, tables_of(kind)[table], NARROW_IN)
    assert figure.get_figwidth() == NARROW_IN
    for text, box in texts:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()


@pytest.mark.parametrize("width_in", [NARROW_IN, WIDTH_IN])
def test_the_numbers_of_placements_with_similar_costs_do_not_touch(texts_of, tables_of, width_in):
    steps = tables_of("placement")["placements"].iloc[[0] * 6].reset_index(drop=True)
    steps["latency_ms"] = [1.0, 1.01, 1.02, 1.03, 3.0, 5.0]
    steps["digital_layers"] = [14, 13, 12, 11, 10, 9]
    steps["chosen"] = steps["digital_layers"] == 12
    _, texts = texts_of("placement_curve", steps, width_in)
    found = [(text, box) for text, box in texts if isinstance(text, Annotation)]
    assert len(found) >= 3
    assert "12" in [text.get_text() for text, _ in found]
    for left, right in pairwise(sorted((box for _, box in found), key=lambda box: box.x0)):
        assert left.x1 <= right.x0
