"""Figures at the width of a phone: all text is inside, and numbers of points do not touch."""

from itertools import pairwise

import pytest
from matplotlib.text import Annotation

from analogmed.report.figures.mitigation import mitigation_gains
from analogmed.report.figures.sensitivity import (
    placement_curve,
    sensitivity_heat_map,
    source_bars,
)
from analogmed.report.figures.style import WIDTH_IN
from analogmed.report.figures.training import training_curves
from analogmed.report.page.sections import NARROW_IN

FIGURES = {
    training_curves: ("training", "log"),
    mitigation_gains: ("mitigation", "summary"),
    sensitivity_heat_map: ("sensitivity", "ranking"),
    source_bars: ("sensitivity", "ranking"),
    placement_curve: ("placement", "placements"),
}
"""Kind of run and table of each figure."""


@pytest.mark.parametrize("draw", FIGURES)
def test_no_text_of_a_figure_for_a_phone_is_cut_off(texts_of, tables_of, draw):
    kind, table = FIGURES[draw]
    figure, texts = texts_of(draw, tables_of(kind)[table], NARROW_IN)
    assert figure.get_figwidth() == NARROW_IN
    for text, box in texts:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()


@pytest.mark.parametrize("width_in", [NARROW_IN, WIDTH_IN])
def test_the_numbers_of_placements_with_similar_costs_do_not_touch(texts_of, tables_of, width_in):
    steps = tables_of("placement")["placements"].iloc[[0] * 6].reset_index(drop=True)
    steps["latency_ms"] = [1.0, 1.01, 1.02, 1.03, 3.0, 5.0]
    steps["digital_layers"] = [14, 13, 12, 11, 10, 9]
    steps["chosen"] = steps["digital_layers"] == 12
    _, texts = texts_of(placement_curve, steps, width_in)
    found = [(text, box) for text, box in texts if isinstance(text, Annotation)]
    assert len(found) >= 3
    assert "12" in [text.get_text() for text, _ in found]
    for left, right in pairwise(sorted((box for _, box in found), key=lambda box: box.x0)):
        assert left.x1 <= right.x0
