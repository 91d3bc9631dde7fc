import numpy as np
import pandas as pd
import pytest

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report.figures.search import pareto_front, search_history
from analogmed.report.tables.search import render_front

CANDIDATES = pd.DataFrame(
    {
        "number": [0, 1, 2, 3],
        "network": ["2d:C4", "2d:A4", "2d:C8", "2d:G8"],
        "dice_1d": [0.5, 0.6, 0.7, 0.9],
        "dice_1mo": [0.5, 0.6, 0.6, np.nan],
        "dice_digital": [0.6, 0.6, 0.8, 0.9],
        "parameters": [100, 21, 300, 5000],
        "tiles": [4.0, 2.0, 4.0, 90.0],
        "latency_ms": [1.0, 2.0, 3.0, 4.0],
        "feasible": pd.array([True, True, True, False], dtype="boolean"),
        "on_front": [False, True, True, False],
    }
)
OBJECTIVES = ["dice_1d", "tiles"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_tables_give_equal_bytes(tmp_path, suffix):
    for draw in (
        lambda path: pareto_front(CANDIDATES, path, objectives=OBJECTIVES),
        lambda path: search_history(CANDIDATES, path, objectives=OBJECTIVES),
    ):
        first, second = draw(tmp_path / f"a{suffix}"), draw(tmp_path / f"b{suffix}")
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size > 1000


def test_other_fronts_and_orders_give_other_figures(tmp_path):
    all_of_it = CANDIDATES.assign(on_front=True)
    pareto_front(CANDIDATES, tmp_path / "a.svg", objectives=OBJECTIVES)
    pareto_front(all_of_it, tmp_path / "b.svg", objectives=OBJECTIVES)
    assert (tmp_path / "a.svg").read_text() != (tmp_path / "b.svg").read_text()
    search_history(CANDIDATES, tmp_path / "c.svg", objectives=["tiles"])
    search_history(CANDIDATES, tmp_path / "d.svg", objectives=OBJECTIVES)
    assert (tmp_path / "c.svg").read_text() != (tmp_path / "d.svg").read_text()


def test_a_search_without_a_feasible_network_is_drawn(tmp_path):
    nothing = CANDIDATES.assign(feasible=False, on_front=False)
    pareto_front(nothing, tmp_path / "a.png", objectives=OBJECTIVES)
    search_history(nothing, tmp_path / "b.png", objectives=OBJECTIVES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (CANDIDATES.drop(columns="tiles"), "lacks the columns tiles"),
        (CANDIDATES.head(0), "lacks any candidate"),
    ],
)
def test_what_cannot_be_drawn_is_told(tmp_path, table, message):
    with pytest.raises(DataError, match=message):
        pareto_front(table, tmp_path / "a.png", objectives=OBJECTIVES)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a figure ends in"):
        search_history(CANDIDATES, tmp_path / "a.jpg", objectives=OBJECTIVES)


def test_a_front_is_a_line_for_each_network():
    front = CANDIDATES[CANDIDATES["on_front"]]
    lines = render_front(front, ["dice_1d", "tiles"]).splitlines()
    cells = [line.split() for line in lines if "2d:" in line]
    assert cells == [
        ["1", "2d:A4", "0.6", "2", "0.6", "0.6", "21", "2"],
        ["2", "2d:C8", "0.7", "4", "0.6", "0.8", "300", "3"],
    ]


def test_a_long_front_is_cut_and_the_rest_counted():
    front = pd.concat([CANDIDATES] * 5)
    text = render_front(front, ["dice_1d"], most=3)
    assert text.count("2d:") == 3
    assert "and 17 more in front.csv" in text


def test_a_front_without_its_columns_is_refused():
    with pytest.raises(DataError, match="the front lacks the columns network, tiles"):
        render_front(CANDIDATES.drop(columns=["network", "tiles"]), ["dice_1d"])
