"""Every metric of the registry, also that of an installed package, is in all tables and figures."""

import math
from importlib.metadata import EntryPoint

import numpy as np
import pandas as pd
import pytest

from analogmed.data.case import Task
from analogmed.evaluation.settings import Experiment, SweepConfig
from analogmed.evaluation.studies.robustness import study
from analogmed.evaluation.studies.robustness.study import Results
from analogmed.foundation import registry as plugins
from analogmed.foundation.errors import ConfigError
from analogmed.metrics import registry
from analogmed.metrics.metric import Metric
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import METRICS, label_of, metric
from analogmed.report import render_summary, to_markdown
from analogmed.report.findings import findings
from analogmed.report.runs import read_run
from analogmed.report.writer import write_report

ADDED = Metric(
    "volume_error",
    "Volume error",
    lambda structure: abs(int(structure.pred.sum()) / int(structure.ref.sum()) - 1),
    direction="lower",
    bounds=(0.0, math.inf),
)
QUICK = ("dice", "hd95")
DAY_S = 86_400.0
TASK = {
    "name": "t", "root": None, "spatial_dims": 2, "channels": ("c",), "classes": ("tumour",),
    "window": (32, 32), "spacing_unit": "px", "train": (), "validation": (), "test": (),
    "read": None,
}  # fmt: skip


@pytest.fixture
def added(monkeypatch):
    """Installs a package with one more metric."""
    point = EntryPoint("volume_error", f"{__name__}:ADDED", registry.PLUGIN_GROUP)
    monkeypatch.setattr(
        plugins,
        "installed_plugins",
        lambda group: [point] if group == registry.PLUGIN_GROUP else [],
    )
    registry.metric.cache_clear()
    yield ADDED
    registry.metric.cache_clear()


@pytest.fixture
def results_of(monkeypatch, _results):
    """Results of two simulated networks; values of other metrics follow from their Dice."""
    monkeypatch.setattr(study, "N_BOOT", 50)
    times_s = _results["time_s"]
    few = _results[times_s.isna() | times_s.isin([0.0, 1.0, DAY_S, 2_592_000.0])]
    few = few[few["model"].isin(["unet", "swin_unetr"])]

    def values_of(name):
        found = metric(name)
        values = few["value"]
        if found.direction == "lower":
            values = 10.0 * (2.0 - values)  # with a small relative spread
        return few.assign(metric=name, value=values, unit=found.unit_for("px"))

    def make(*metrics):
        table = pd.concat([values_of(name) for name in metrics], ignore_index=True)
        costs = table[["model", "training"]].drop_duplicates().assign(tiles=3)
        times_s = tuple(table["time_s"].dropna().unique())
        experiment = Experiment(metrics=metrics, sweep=SweepConfig(times_s=times_s))
        return Results(experiment, table, costs)

    return make


def day_of(table):
    return table[table["time_s"] == DAY_S]


@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        "volume_error",
        *(pytest.param(name, marks=pytest.mark.slow) for name in METRICS if name not in QUICK),
    ],
)
def test_a_primary_metric_names_all_columns_and_sentences(added, results_of, tmp_path, name):
    results = results_of(name)
    summary, curves = results.summary(), results.curves()
    trained = summary[summary["training"] == "hwa"]
    gains = dict(zip(trained["model"], np.sign(trained["gain_1d"]), strict=True))
    assert gains == {"unet": 1.0, "swin_unetr": -1.0}  # as the Dice
    assert (summary.loc[summary["model"] == "unet", "drop_1d"] > 0).all()
    assert (trained["gain_1d_low"] <= trained["gain_1d_high"]).all()
    np.testing.assert_allclose(day_of(curves)["estimate"], summary[f"{name}_1d"])
    np.testing.assert_array_equal(day_of(curves)["drift_drop_high"], summary["drop_1d_high"])
    low, high = metric(name).bounds
    assert summary[f"{name}_1d_low"].ge(low).all() and summary[f"{name}_1d_high"].le(high).all()
    failures = results.failures_over_time(curves)
    assert set(failures["metric"]) == set(results.comparison()["metric"]) == {name}
    kept = failures.set_index(["model", "training"])["holds_until_s"].fillna(-1.0)
    assert (kept.xs("hwa", level=1) >= kept.xs("digital", level=1)).all()
    shown = render_summary(summary) + to_markdown(summary)
    assert label_of(name) in shown
    assert "Dice" not in shown or name == "dice"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["volume_error"])
def test_a_further_metric_has_rows_columns_figures_and_parts_of_the_page(
    added, results_of, tmp_path, name
):
    run, alone = tmp_path / "run", results_of("dice")
    results_of("dice", name).write(run)
    tables = read_run(run).tables
    for table in ("curves", "comparison", "time_to_failure"):
        assert list(tables[table]["metric"].unique()) == ["dice", name]
    summary = tables["summary"]
    own = results_of(name).summary()
    for column in ("1d", "1d_std", "1mo", "drop_1d_low", "noise_drop", "gain_1d", "avm"):
        of_own = column if column in own else f"{name}_{column}"
        np.testing.assert_allclose(summary[f"{name}_{column}"], own[of_own])
    pd.testing.assert_frame_equal(summary[[*alone.summary()]], alone.summary(), check_dtype=False)
    assert (run / "figures" / f"{name}_over_time.png").is_file()
    assert (run / "figures" / f"{name}_drop_per_model.png").is_file()
    page, markdown, _ = (path.read_text(encoding="utf-8") for path in write_report([run]))
    label = label_of(name)
    word = "rise" if is_lower_better(name) else "drop"
    for title in (f"{label} {word} over time", f"{label} {word} of each network"):
        assert f">{title}" in page
    assert f"Time to failure: {label}" in page
    assert f"Every pair of networks, after 1 day: {label}" in page or label in markdown


@pytest.mark.parametrize("name", ["hd95"])
def test_where_lower_is_better_the_findings_say_so(added, results_of, tmp_path, name):
    run = tmp_path / "run"
    results_of(name).write(run)
    found = findings(read_run(run))
    asked = [sentence for sentence in found if "Evaluate" in sentence]
    assert len(asked) == 1 and "Only 6 patients" in asked[0] and asked[0] == found[0]
    said = [sentence.partition(" Only 6 patients")[0] for sentence in found]
    label = label_of(name)
    best = read_run(run).tables["summary"].sort_values(f"{name}_1d")["model"].iloc[0]
    assert said[0].startswith("After a day on PCM chips") and label in said[0]
    assert best == "swin_unetr" and "Swin-UNETR" in said[1]
    assert f"normalised {label} (on the chip / digital)" in said[1]
    assert "not statistically distinguishable" in said[1]
    assert any(f" {label} of " in sentence and "Time to failure" in sentence for sentence in said)
    page, markdown, _ = (path.read_text(encoding="utf-8") for path in write_report([run]))
    assert "rise in 1 day" in markdown and "Dice" not in markdown
    assert "stays below" in page and "Lower is better." in page


def test_a_limit_is_a_value_of_the_primary_metric():
    far = Task(**TASK, primary_metric="hd95")
    assert Experiment(limit=5.0, metrics=("nsd",)).for_task(far).metrics == ("hd95", "nsd")
    with pytest.raises(ConfigError, match=r"limit: expected a value of Dice, above 0 and below 1"):
        Experiment(limit=5.0).for_task(Task(**TASK))
    with pytest.raises(ConfigError, match=r"sweep.width: expected a width of Dice, above 0"):
        sweep = SweepConfig(width=1.5, times_s=(DAY_S,))
        Experiment(sweep=sweep).for_task(Task(**TASK))
