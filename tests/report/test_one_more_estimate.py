"""Another estimate is one line of the list: it is then computed, written, read and shown."""

import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.summaries.summary import summarise
from analogmed.foundation.errors import DataError
from analogmed.report import render_summary, to_markdown
from analogmed.report.figures.over_time import drop_per_model
from analogmed.report.runs import read_run
from analogmed.report.writer import write_report
from analogmed.search.objectives import objectives_of
from analogmed.tables import estimates
from analogmed.tables.estimates import REFERENCE, Estimate
from analogmed.tables.robustness import SUMMARY

WEEK_S = 604_800.0
NAME = "drop_1w"
HEADS = {
    "terminal": "after\n1 week",
    "page": "{drop} after 1 week",
    "drops": "{drop} in 1 week",
    "figure": "1 week",
    "search": "{label} {drop} in 1 week",
}


LINES = (*estimates.ESTIMATES, Estimate(NAME, "drop", (REFERENCE, WEEK_S), **HEADS))


@pytest.fixture
def one_more(monkeypatch):
    monkeypatch.setattr(estimates, "ESTIMATES", LINES)


@pytest.fixture(scope="module")
def _longer(_results):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "ESTIMATES", LINES)
        return summarise(_results, n_boot=100)


@pytest.fixture
def longer(one_more, _longer):
    return _longer.copy()


def test_it_is_computed_with_its_interval(longer, curves):
    expected = curves[(curves["time_s"] == WEEK_S)].set_index(["model", "training"])
    found = longer.set_index(["model", "training"]).loc[expected.index]
    for end in ("", "_low", "_high"):
        np.testing.assert_array_equal(found[NAME + end], expected[f"drift_drop{end}"])
    assert (found[f"{NAME}_low"] < found[NAME]).all() and (
        found[NAME] < found[f"{NAME}_high"]
    ).all()


def test_it_is_written_read_and_on_the_page(longer, make_run, tmp_path):
    run = make_run(tmp_path / "run")
    SUMMARY.write(longer, run)
    pd.testing.assert_series_equal(read_run(run).tables["summary"][NAME], longer[NAME])
    page, markdown = (path.read_text(encoding="utf-8") for path in write_report([run])[:2])
    for text in (page, markdown):
        assert "drop after 1 week" in text and "drop in 1 week" in text
    value, low, high = longer.loc[0, [NAME, f"{NAME}_low", f"{NAME}_high"]]
    assert f"{value:.3f} ({low:.3f} to {high:.3f})" in markdown


def test_a_column_of_it_that_is_damaged_is_named(longer, make_run, tmp_path):
    run = make_run(tmp_path / "run")
    longer.drop(columns=f"{NAME}_low").to_csv(run / "summary.csv", index=False)
    with pytest.raises(DataError, match=rf"lacks the columns {NAME}_low\."):
        read_run(run)


@pytest.mark.slow
def test_a_run_from_before_it_is_read_as_it_was(one_more, summary, make_run, tmp_path):
    page = write_report([make_run(tmp_path / "run")])[0].read_text(encoding="utf-8")
    assert "1 week" not in page.split("drop of each network")[-1].split("<h3")[0]
    assert "after\n1 week" not in render_summary(summary)
    assert drop_per_model(summary, tmp_path / "drops.png").is_file()


def test_it_is_in_the_terminal_and_in_markdown(longer):
    value = f"{longer.loc[0, NAME]:.3f}"
    text = render_summary(longer)
    first = next(line for line in text.splitlines() if line.split()[:1] == ["unet"])
    assert value in first.split()
    assert max(map(len, text.splitlines())) <= 120
    assert "| after 1 week |" in to_markdown(longer)


def test_it_is_an_objective_of_a_search(one_more):
    assert objectives_of("dice")[NAME] == "minimize"
    assert objectives_of("hd95")[NAME] == "minimize"
    assert objectives_of("hd95")["hd95_1d"] == "minimize"
