import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.report.figures.maps import uncertainty_maps
from analogmed.report.figures.mitigation import mitigation_gains
from analogmed.report.figures.uncertainty import (
    conformal_over_time,
    draw_uncertainty,
    is_drawable,
    reliability_diagram,
    risk_coverage_curves,
    uncertainty_density,
)
from analogmed.report.page.sections import NARROW_IN
from analogmed.report.tables.conformal import render_conformal
from analogmed.report.tables.mitigation import render_mitigation
from analogmed.report.tables.uncertainty import render_comparison, render_uncertainty

TIMES = (0.0, 2_592_000.0)
WHERE = [
    (model, training, source, time_s, region)
    for model in ("unet", "a$b_net")
    for training in ("digital", "hwa")
    for source, time_s in (("deterministic", np.nan), *(("chips", t) for t in TIMES))
    for region in ("image", "band")
]
KEYS = ["model", "training", "source", "time_s", "region"]


def table(columns, **more):
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({**dict(zip(KEYS, where, strict=True)), **columns(rng), **more})
        for where in WHERE
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def density():
    edges = np.concatenate([[0.0], np.logspace(-10, 0, 21)])
    return table(
        lambda rng: {
            "bin_low": edges[:-1],
            "bin_high": edges[1:],
            "count": rng.integers(0, 99, 21),
        },
        measure="variance",
    )


@pytest.fixture
def reliability():
    middle = np.linspace(0.5, 1.0, 6)
    return table(lambda rng: {"voxels": 50, "confidence": middle, "accuracy": middle - 0.1})


@pytest.fixture
def risks():
    coverage = np.linspace(0.01, 1.0, 20)
    return table(lambda rng: {"coverage": coverage, "risk": 0.1 * coverage**4})


@pytest.fixture
def conformal():
    rows = [
        {
            "model": "unet", "training": training, "calibrated": way, "time_s": time_s,
            "class": "tumour", "fnr": 0.08, "fnr_low": 0.02, "fnr_high": 0.2, "alpha": 0.1,
            "volume_ratio": 1.4, "volume_ratio_low": 1.2, "volume_ratio_high": 1.9,
            "kept": "open", "n_units": 12, "trivial": False,
        }
        for training in ("digital", "hwa")
        for way in ("digital", "first", "each")
        for time_s in TIMES
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def mitigation():
    rows = [
        {
            "model": "unet", "training": "digital", "time_s": time_s, "option": option,
            "metric": metric, "value": 0.8, "value_low": 0.7, "value_high": 0.9, "gain": gain,
            "gain_low": gain, "gain_high": gain, "n_patients": 7, "n_chips": 3, "level": 0.9,
            "images": 32, "labelled_images": 0, "passes": 32, "parameters": 1472,
        }
        for time_s in TIMES
        for option, gain in (("none", np.nan), ("drift_compensation", 0.3), ("batchnorm", -0.1))
        for metric in ("dice", "ece", "nll", "ece_band", "nll_band")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def drawn(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    return pixels.shape, (pixels < 250).mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (uncertainty_density, "density"),
        (reliability_diagram, "reliability"),
        (risk_coverage_curves, "risks"),
        (conformal_over_time, "conformal"),
        (mitigation_gains, "mitigation"),
    ],
)
def test_a_figure_is_drawn_the_same_each_time_and_refuses_what_it_cannot_draw(
    draw, name, request, tmp_path
):
    content = request.getfixturevalue(name)
    first = draw(content, tmp_path / "first.png")
    (_, width), share = drawn(first)
    assert width == 1200
    assert share > 0.01
    assert draw(content, tmp_path / "second.png").read_bytes() == first.read_bytes()
    with pytest.raises(DataError, match="lacks the columns model"):
        draw(content.drop(columns="model"), tmp_path / "third.png")
    with pytest.raises(DataError, match="nothing to draw"):
        draw(content.iloc[:0], tmp_path / "third.png")
    with pytest.raises(ConfigError, match="ends in"):
        draw(content, tmp_path / "figure.jpg")


def test_a_run_on_few_images_has_no_reliability_diagram(reliability):
    assert is_drawable(reliability)
    assert not is_drawable(reliability.assign(voxels=12))


def test_the_whole_error_rate_is_in_sight(risks, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        "analogmed.report.figures.uncertainty.save_figure",
        lambda figure, path: figures.append(figure),
    )
    risk_coverage_curves(risks, tmp_path / "risk.png")
    for axes in figures[0].axes:
        low, high = axes.get_ylim()
        assert low == 0.0
        assert high >= risks["risk"].max()


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (uncertainty_density, "density"),
        (reliability_diagram, "reliability"),
        (risk_coverage_curves, "risks"),
        (conformal_over_time, "conformal"),
    ],
)
def test_no_text_of_a_figure_for_a_phone_is_cut_off(texts_of, draw, name, request):
    content = request.getfixturevalue(name)
    figure, texts = texts_of(draw, content[content["model"] == "unet"], NARROW_IN)
    assert figure.get_figwidth() == NARROW_IN
    for text, box in texts:
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    reference = np.zeros((16, 16), np.uint8)
    reference[4:9, 4:9] = 1
    arrays = {"worst_image": rng.random((16, 16, 3)), "worst_reference": reference}
    rows = []
    for number, training in enumerate(("digital", "hwa")):
        name = f"worst_{number}"
        arrays |= {f"{name}_prediction": reference, f"{name}_variance": rng.random((16, 16)) / 10}
        rows.append({"rank": "worst", "case": "c", "name": name, "model": "unet",
                     "training": training, "source": "chips", "time_s": 0.0})  # fmt: skip
    return arrays, pd.DataFrame(rows)


def test_maps_of_both_trainings_stand_beside_the_image(examples, tmp_path):
    path = uncertainty_maps(*examples, tmp_path / "maps.png")
    assert drawn(path)[1] > 0.2
    assert uncertainty_maps(*examples, tmp_path / "b.png").read_bytes() == path.read_bytes()
    with pytest.raises(DataError, match="no example slice"):
        uncertainty_maps(examples[0], examples[1].iloc[:0], path)


def test_a_folder_without_tables_draws_nothing(tmp_path):
    assert draw_uncertainty(tmp_path) == []


def test_the_terminals_tables_tell_estimates_with_intervals(conformal, mitigation):
    rows = [
        {**dict(zip(KEYS, where, strict=True)), "metric": metric, "estimate": 0.25, "low": 0.125,
         "high": 0.5, "n_patients": 7, "level": 0.9}
        for where in WHERE
        for metric in ("dice", "mean_entropy", "ece", "nll")
    ]  # fmt: skip
    text = render_uncertainty(pd.DataFrame(rows))
    assert "0.125 to 0.500" in text
    assert "7 patients; 90 % bootstrap intervals" in text
    text = render_conformal(conformal)
    assert "target: at most 10 % of a structure missed" in text
    assert "0.080 (0.020 to 0.200)" in text
    text = render_mitigation(mitigation)
    assert "drift_compensation" in text
    assert "7 patients, 3 chips, 90 % intervals" in text
    assert "-0.100" in text and "+0.300" in text and "1472" in text
    assert max(map(len, text.splitlines())) <= 200


def test_a_comparison_of_nothing_is_empty():
    columns = ["model", "source", "time_s", "region", "metric", "difference", "p_value"]
    assert render_comparison(pd.DataFrame(columns=columns)) == ""
    with pytest.raises(DataError, match="lacks the columns model"):
        render_comparison(pd.DataFrame())
