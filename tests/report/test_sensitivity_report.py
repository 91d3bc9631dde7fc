import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report import (
    placement_curve,
    render_placement,
    render_sensitivity,
    sensitivity_heat_map,
    source_bars,
)

TIMES_S = (0.0, 86_400.0)
LAYERS = ("encoder1.conv1", "a_$layer$_of_b", "head")
SOURCES = ("programming", "drift")
STEPS = (("", 0.08, 2.0), ("head", 0.03, 2.5), ("encoder1.conv1", 0.04, 3.0))


def row(setting, subject, time_s, effect, rank=None):
    bounds = {"drop": effect, "drop_low": effect - 0.01, "drop_high": effect + 0.01}
    bounds |= {f"effect{end}": bounds[f"drop{end}"] for end in ("", "_low", "_high")}
    place = {"setting": setting, "subject": subject, "time_s": time_s, "rank": rank}
    return {**place, **bounds, "n_patients": 7, "n_chips": 5, "level": 0.95, "note": ""}


@pytest.fixture
def ranking():
    rows = []
    for time_s in TIMES_S:
        rows += [row("all_analog", "", time_s, 0.08), row("no_noise", "", time_s, 0.0)]
        for settings, subjects in (
            (("only_analog", "only_digital"), LAYERS),
            (("noise_alone", "noise_all_but"), SOURCES),
        ):
            for setting in settings:
                rows += [
                    row(setting, name, time_s, 0.03 - 0.02 * place, place + 1)
                    for place, name in enumerate(subjects)
                ]
    return pd.DataFrame(rows).astype({"rank": "Int64"})


@pytest.fixture
def steps():
    shared = {"objective": "latency", "loss": 0.035, "profile": "hermes-1-phase"}
    shared |= {"level_of_profile": "mvm_only", "n_patients": 7, "n_chips": 5, "level": 0.95}
    rows = [
        {
            "layer": layer, "digital_layers": number, "drop": drop, "drop_low": drop - 0.02,
            "drop_high": drop + 0.02, "predicted_drop": drop, "latency_ms": cost,
            "energy_mj": np.nan, "tiles": 40 - number, "kept": number < 2, "pareto": number < 2,
            "chosen": number == 1, **shared,
        }
        for number, (layer, drop, cost) in enumerate(STEPS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(params=["layers", "sources", "placements"])
def draw(request):
    """Draws one of the three figures from its table."""
    name, function = {
        "layers": ("ranking", sensitivity_heat_map),
        "sources": ("ranking", source_bars),
        "placements": ("steps", placement_curve),
    }[request.param]
    table = request.getfixturevalue(name)
    return lambda path, table=table: function(table, path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_table_gives_the_same_bytes(draw, tmp_path, suffix):
    first, second = draw(tmp_path / f"a{suffix}"), draw(tmp_path / f"b{suffix}")
    assert first.read_bytes() == second.read_bytes()


def test_a_figure_is_1200_pixels_wide(draw, tmp_path):
    with Image.open(draw(tmp_path / "figure.png")) as image:
        assert image.width == 1200


def test_another_format_is_refused_and_nothing_is_written(draw, tmp_path):
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        draw(tmp_path / "figure.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("draws", "table", "column"),
    [
        (sensitivity_heat_map, "ranking", "effect_low"),
        (source_bars, "ranking", "n_chips"),
        (placement_curve, "steps", "pareto"),
        (placement_curve, "steps", "latency_ms"),
    ],
)
def test_a_missing_column_is_told_by_its_name(draws, table, column, request, tmp_path):
    frame = request.getfixturevalue(table).drop(columns=column)
    with pytest.raises(DataError, match=column):
        draws(frame, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("draws", "what"), [(sensitivity_heat_map, "layer"), (source_bars, "noise source")]
)
def test_nothing_to_draw_is_told(draws, what, ranking, tmp_path):
    with pytest.raises(DataError, match=f"no {what}"):
        draws(ranking[ranking["setting"] == "all_analog"], tmp_path / "figure.png")


def test_no_placement_to_draw_is_told(steps, tmp_path):
    with pytest.raises(DataError, match="no placement"):
        placement_curve(steps.iloc[:0], tmp_path / "figure.png")


def test_other_effects_give_another_picture(ranking, tmp_path):
    other = ranking.assign(effect=ranking["effect"].where(ranking["subject"] != "head", 0.05))
    first = sensitivity_heat_map(ranking, tmp_path / "a.png")
    assert sensitivity_heat_map(other, tmp_path / "b.png").read_bytes() != first.read_bytes()


def test_the_text_tells_the_ranking_at_the_latest_time(ranking):
    text = render_sensitivity(ranking, most=2)
    assert "Only this layer analog: Dice drop against digital, 1 day" in text
    assert "t0" not in text
    first = next(line for line in text.splitlines() if "encoder1.conv1" in line)
    assert "0.030 (0.020 to 0.040)" in first
    assert "and 1 more, in ranking.csv" in text
    assert "whole network analog: Dice drop 0.080 (0.070 to 0.090)" in text
    assert "7 patients, 5 chips; 95 % intervals" in text


def test_the_text_of_placements_names_profile_and_level_and_what_was_chosen(steps):
    text = render_placement(steps)
    assert "time and energy estimated for hermes-1-phase, level mvm_only" in text
    lines = [line for line in text.splitlines() if "chosen" in line]
    assert len(lines) == 1
    assert lines[0].split()[0] == "head"
    assert "0.030 (0.010 to 0.050)" in lines[0]


def test_texts_name_the_metric_of_the_run(ranking, steps):
    assert "Only this layer analog: AUROC drop" in render_sensitivity(ranking, metric="auroc")
    assert "AUROC drop" in render_placement(steps, metric="auroc")


def test_a_table_without_its_columns_is_refused(ranking, steps):
    with pytest.raises(DataError, match="rank"):
        render_sensitivity(ranking.drop(columns="rank"))
    with pytest.raises(DataError, match="tiles"):
        render_placement(steps.drop(columns="tiles"))


@pytest.mark.slow
@pytest.mark.parametrize("draws", [sensitivity_heat_map, source_bars])
def test_a_single_chip_is_drawn_without_intervals(draws, ranking, tmp_path):
    ranking[["drop_low", "drop_high", "effect_low", "effect_high"]] = np.nan
    assert draws(ranking.assign(n_chips=1), tmp_path / "figure.png").exists()
    assert "0.030 " in render_sensitivity(ranking)


def test_placements_of_a_single_chip_are_drawn_without_intervals(steps, tmp_path):
    steps[["drop_low", "drop_high"]] = np.nan
    assert placement_curve(steps.assign(n_chips=1), tmp_path / "figure.png").exists()
