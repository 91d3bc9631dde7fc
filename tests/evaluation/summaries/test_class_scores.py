"""Scores of each class: values, intervals, undefined classes, and their table."""

import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.summaries.class_scores import IN_NO_REFERENCE, class_scores
from analogmed.evaluation.summaries.summary import over_time
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.notes import APART, BOTH_EMPTY, NO_POSITIVE, SPURIOUS
from analogmed.report.tables.class_scores import class_tables, render_class_scores
from analogmed.tables.results import COLUMNS

N_CASES = 6


def results(classes=("Mass", "Nodule", "Hernia")):
    """Two chips at two times, of one network; the last class is undefined."""
    generator = np.random.default_rng(0)
    runs = [("digital", None, np.nan, 0.0)]
    runs += [("pcm", chip, time, 0.1) for chip in (0, 1) for time in (0.0, DAY_S)]
    rows = []
    for number, name in enumerate(classes):
        spread = generator.normal(0, 0.05, N_CASES)
        for hardware, chip, time_s, lost in runs:
            for case in range(N_CASES):
                defined = name != "Hernia"
                value = 0.9 - 0.1 * number - lost + spread[case] if defined else np.nan
                note = "" if defined else NO_POSITIVE
                place = ("phantom_chest", "unet", "digital", hardware, chip, time_s, 0)
                patient = f"p{case}"
                rows.append((*place, patient, patient, name, "auroc", value, "1", note))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def test_each_class_has_its_score_and_loss_at_one_time():
    table = results()
    found = class_scores(table, "auroc", DAY_S, n_boot=100)
    assert found["class"].tolist() == ["Mass"] * 2 + ["Nodule"] * 2 + ["Hernia"] * 2
    assert found["time_s"].dropna().unique().tolist() == [DAY_S]
    on_chip = found[found["time_s"].notna()].set_index("class")
    digital = found[found["time_s"].isna()].set_index("class")
    means = table.groupby(["class", "hardware"])["value"].mean()
    for name in ("Mass", "Nodule"):
        assert digital.loc[name, "estimate"] == pytest.approx(means[name, "digital"])
        assert on_chip.loc[name, "estimate"] == pytest.approx(means[name, "pcm"])
        assert on_chip.loc[name, "drift_drop"] == pytest.approx(0.1)
        assert on_chip.loc[name, "low"] < on_chip.loc[name, "estimate"] < 1
    assert np.isnan(on_chip.loc["Hernia", "estimate"])


@pytest.mark.parametrize(("note", "value"), [(BOTH_EMPTY, np.nan), (SPURIOUS, 0.0)])
def test_a_class_that_no_reference_contains_has_no_score(note, value):
    table = results().assign(metric="dice")
    is_absent = table["class"] == "Hernia"
    table.loc[is_absent, ["note", "value"]] = [note, value]
    found = class_scores(table, "dice", DAY_S, n_boot=100)
    absent = found[found["class"] == "Hernia"]
    assert len(absent) == 2 and absent["estimate"].isna().all()
    assert set(absent["note"]) == {IN_NO_REFERENCE}
    assert found.loc[found["class"] == "Mass", "estimate"].notna().all()


def test_a_class_of_its_own_has_its_score_and_is_in_no_mean():
    table = results(classes=("Mass", "Nodule", "Other"))
    is_apart = table["class"] == "Other"
    expected = over_time(table[~is_apart], "auroc", n_boot=100)
    table.loc[is_apart, "note"] = APART
    assert over_time(table, "auroc", n_boot=100)["estimate"].tolist() == pytest.approx(
        expected["estimate"].tolist()
    )
    found = class_scores(table, "auroc", DAY_S, n_boot=100).set_index("class")
    mean = table[is_apart & (table["hardware"] == "digital")]["value"].mean()
    assert found.loc["Other", "estimate"].iloc[0] == pytest.approx(mean)
    assert (found["note"] == APART).groupby("class").all().to_dict() == {
        "Mass": False, "Nodule": False, "Other": True
    }  # fmt: skip


def test_a_single_class_has_no_table():
    table = results(classes=("Mass",))
    assert class_scores(table, "auroc", DAY_S).empty
    assert render_class_scores(pd.DataFrame()) == ""


def test_without_a_chip_there_is_no_table():
    table = results()
    found = class_scores(table[table["hardware"] == "digital"], "auroc", DAY_S, n_boot=100)
    assert found["estimate"].notna().sum() == 2
    assert class_tables(found) == ()
    assert render_class_scores(found) == ""


def test_a_class_at_chance_is_named():
    table = results()
    table.loc[table["class"] == "Nodule", "value"] = 0.53
    text = render_class_scores(class_scores(table, "auroc", DAY_S, n_boot=100))
    assert (
        "The digital AUROC of Nodule of the digitally trained U-Net is 0.530 (95 % interval 0.530 "
        "to 0.530), at most 0.05 above chance (0.5)" in " ".join(text.split())
    )
    assert "AUROC of Mass" not in text and "AUROC of Hernia" not in text


def test_a_table_has_one_line_per_class_and_names_undefined_ones():
    found = class_scores(results(), "auroc", DAY_S, n_boot=100)
    (table,) = class_tables(found)
    assert [str(cell) for cell in table.rows[2]][-3:] == ["\u2013"] * 3
    text = render_class_scores(found)
    assert "AUROC of each class of Chest phantom on PCM chips" in text
    assert "Mass" in text
    assert "undefined; the notes name the reason" in text
