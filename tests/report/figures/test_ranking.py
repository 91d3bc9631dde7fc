import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report.figures import ranking as ranking_figures
from analogmed.report.figures.ranking import (
    anytime_curves,
    rank_scatter,
    task_heat_map,
    tau_over_training,
)
from analogmed.search.benchmark.rank_agreement import top_overlap

TASKS = ("phantom_brain", "phantom_nuclei", "phantom_spleen", "lgg")


@pytest.fixture
def agreements():
    rows = []
    for i, one in enumerate(TASKS):
        for j, other in enumerate(TASKS):
            value = 1.0 - 0.4 * abs(i - j)
            row = {"one": one, "other": other, "value": value, "n": 30}
            rows.append(row | {"low": value - 0.1, "high": min(1.0, value + 0.1)})
    return pd.DataFrame(rows)


@pytest.fixture
def taus():
    rows = []
    for rule, last in (("SPOS", 0.5), ("FairNAS", 0.6), ("MIAS", 0.75)):
        for epoch in (2, 4, 8, 16, 32):
            value = last * (1 - np.exp(-epoch / 8))
            row = {"rule": rule, "epoch": epoch, "value": value, "n": 50}
            rows.append(row | {"low": value - 0.08, "high": value + 0.07})
    return pd.DataFrame(rows)


@pytest.fixture
def curves():
    rows = []
    for strategy, speed in (("random", 30), ("evolution", 15), ("tpe", 12), ("analognas", 8)):
        for queries in range(1, 61):
            mean = 0.8 - 0.1 * np.exp(-queries / speed)
            row = {"strategy": strategy, "queries": queries, "mean": mean, "seeds": 50}
            rows.append(row | {"low": mean - 0.004, "high": mean + 0.004})
    return pd.DataFrame(rows)


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    digital = generator.random(100)
    return pd.DataFrame({"digital": digital, "day": digital + 0.3 * generator.random(100)})


AGREEMENT = {"value": 0.66, "low": 0.58, "high": 0.73}


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are saved, whose content can then be looked at."""
    figures = []
    save = ranking_figures.save_figure

    def keep(figure, path):
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(ranking_figures, "save_figure", keep)
    return figures


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_the_heat_map_prints_values_with_intervals(agreements, tmp_path, drawn):
    path = task_heat_map(agreements, tmp_path / "map.png")
    with Image.open(path) as image:
        assert image.width > 400
    axes = drawn[0].axes[0]
    assert "0.60\n[0.50, 0.70]" in texts_of(axes)
    assert texts_of(axes).count("1.00") == len(TASKS)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(TASKS)


def test_a_pair_without_tau_is_a_dash(agreements, tmp_path, drawn):
    agreements.loc[1, ["value", "low", "high"]] = np.nan
    task_heat_map(agreements, tmp_path / "map.png", label="Jaccard index", least=0)
    assert texts_of(drawn[0].axes[0])[1] == "-"


def test_each_rule_is_a_line_below_the_ceiling(taus, tmp_path, drawn):
    ceiling = {"value": 0.8, "low": 0.7, "high": 0.88}
    tau_over_training(taus, tmp_path / "taus.png", ceiling=ceiling)
    axes = drawn[0].axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["SPOS", "FairNAS", "MIAS", "ceiling: two stand-alone seeds"]
    line = axes.get_lines()[2]
    assert list(line.get_xdata()) == [2, 4, 8, 16, 32]
    assert line.get_ydata() == pytest.approx(taus.loc[taus["rule"] == "MIAS", "value"])
    assert "50 networks" in drawn[0].legends[0].get_title().get_text()


def test_each_strategy_is_a_line_with_its_band(curves, tmp_path, drawn):
    anytime_curves(curves, tmp_path / "curves.png", best=0.81)
    axes = drawn[0].axes[0]
    assert len(axes.collections) == 4
    assert axes.get_legend_handles_labels()[1][-1] == "best of the table"
    assert len({line.get_color() for line in axes.get_lines()[:4]}) == 4


def test_the_scatter_says_tau_and_what_the_top_lists_share(scores, tmp_path, drawn):
    rank_scatter(scores, tmp_path / "ranks.png", agreement=AGREEMENT, k=10)
    axes = drawn[0].axes[0]
    shared = len(set(scores["digital"].nlargest(10).index) & set(scores["day"].nlargest(10).index))
    assert axes.get_title() == (
        f"Kendall's tau-b 0.66 [0.58, 0.73], 100 networks\nthe two top-10 lists share {shared}"
    )
    points = np.concatenate([part.get_offsets() for part in axes.collections])
    assert sorted(points[:, 0]) == list(range(1, 101))


def test_top_lists_with_ties_are_those_of_the_overlap(tmp_path, drawn):
    generator = np.random.default_rng(3)
    tied = pd.DataFrame(generator.integers(0, 6, (40, 2)), columns=["digital", "day"])
    rank_scatter(tied, tmp_path / "ranks.png", agreement=AGREEMENT, k=10)
    marked = len(drawn[0].axes[0].collections[1].get_offsets())
    assert f"the two top-10 lists share {marked}" in drawn[0].axes[0].get_title()
    lists = [tied[name] >= tied[name].nlargest(10).iloc[-1] for name in tied]
    assert marked == (lists[0] & lists[1]).sum()
    overlap = marked / (lists[0] | lists[1]).sum()
    assert top_overlap(tied["digital"], tied["day"], k=10) == pytest.approx(overlap)


def test_equal_tables_give_equal_bytes(curves, tmp_path):
    one = anytime_curves(curves, tmp_path / "one.svg").read_bytes()
    assert anytime_curves(curves.copy(), tmp_path / "two.svg").read_bytes() == one


def test_a_missing_column_is_refused(curves, taus, agreements, tmp_path):
    for draw, table, column in (
        (anytime_curves, curves, "seeds"),
        (tau_over_training, taus, "epoch"),
        (task_heat_map, agreements, "other"),
    ):
        with pytest.raises(DataError, match=f"lacks the columns {column}"):
            draw(table.drop(columns=column), tmp_path / "figure.png")


def test_nothing_to_draw_is_refused(curves, scores, tmp_path):
    with pytest.raises(DataError, match="has no strategy"):
        anytime_curves(curves.iloc[:0], tmp_path / "figure.png")
    with pytest.raises(DataError, match="1 columns"):
        rank_scatter(scores[["day"]], tmp_path / "figure.png", agreement=AGREEMENT)


def test_another_format_is_refused(curves, tmp_path):
    with pytest.raises(ConfigError, match="a figure ends in"):
        anytime_curves(curves, tmp_path / "curves.gif")
