import numpy as np
import pandas as pd
import pytest

from analogmed.foundation.errors import DataError
from analogmed.report import render_summary, to_markdown


def lines_of(text, model):
    return [line for line in text.splitlines() if line.strip().startswith(model)]


class TestTerminalTable:
    def test_each_network_has_its_estimates_beside_its_digital_score(self, summary):
        text = render_summary(summary)
        found = [line.split() for line in lines_of(text, "unet ")[:2]]
        rows = summary[summary["model"] == "unet"].to_dict("records")
        for cells, row in zip(found, rows, strict=True):
            assert cells[1:3] == [f"{row['dice_own_digital']:.3f}", f"{row['dice_t0']:.3f}"]
            assert cells[3:6] == [f"{row['dice_1d']:.3f}", "±", f"{row['dice_1d_std']:.3f}"]
            assert cells[-2:] == [f"{row['normalised_dice_1d']:.3f}", "0/24"]

    def test_the_interval_stands_below_its_estimate(self, summary):
        row = summary.iloc[0]
        text = render_summary(summary)
        expected = f"{row['dice_t0_low']:.3f}\u2013{row['dice_t0_high']:.3f}"
        assert expected in lines_of(text, "digital ")[0]
        assert f"{row['avm_low']:.3f} to {row['avm_high']:.3f}" in text

    def test_the_caption_says_what_stands_behind_the_numbers(self, summary):
        text = render_summary(summary)
        assert "6 patients, 4 chips. Intervals: 95 %, from a two-way bootstrap" in text
        assert "1 day: 86,400 s; 1 month: 2,592,000 s" in text

    def test_what_hardware_aware_training_gains_has_its_own_lines(self, summary):
        text = render_summary(summary)
        row = summary[(summary["model"] == "unetpp") & (summary["training"] == "hwa")].iloc[0]
        lines = [line.split() for line in lines_of(text, "unetpp")]
        assert lines[-1][:3] == ["unetpp", "hwa", f"{row['gain_1d']:.3f}"]
        assert f"{row['gain_1d_low']:.3f}" in lines[-1][3]

    def test_without_a_pair_of_trainings_there_is_no_table_of_gains(self, summary):
        hwa_alone = summary[summary["training"] == "hwa"].copy()
        hwa_alone[["gain_1d", "gain_1d_low", "gain_1d_high"]] = np.nan
        assert "gain of training" not in render_summary(hwa_alone)
        assert "gain of training" not in to_markdown(hwa_alone)

    def test_it_is_plain_text_of_120_columns(self, summary):
        text = render_summary(summary)
        assert "\x1b" not in text
        assert max(len(line) for line in text.splitlines()) <= 120

    def test_a_value_that_is_not_there_is_a_dash(self, summary):
        summary[["avm", "avm_low", "avm_high"]] = np.nan
        summary["missed"] = pd.array([pd.NA, *[1] * (len(summary) - 1)], dtype="Int64")
        text = render_summary(summary)
        assert "nan" not in text.lower()
        assert lines_of(text, "unet ")[0].split()[-1] == "\u2013"

    def test_missed_structures_are_not_mentioned_where_they_are_unknown(self, summary):
        assert "Missed: structures" in render_summary(summary)
        summary["missed"] = pd.array([pd.NA] * len(summary), dtype="Int64")
        assert "missed" not in render_summary(summary).lower()

    def test_notes_of_a_row_stand_below_the_table(self, summary):
        summary.loc[1, "note"] = "7 of 8 cases are in every run"
        assert "unet, hwa: 7 of 8 cases are in every run." in render_summary(summary)

    def test_cost_columns_have_their_own_table_once_per_model(self, summary):
        summary["reuse_factor_per_tile"] = np.repeat([7.42, 12.53, 43.2], 2)
        summary["tiles"] = np.repeat([120, 300, 12345], 2)
        text = render_summary(summary)
        assert "LGG on PCM chips: Cost" in text
        assert [line.split() for line in lines_of(text, "swin_unetr")][-1] == [
            "swin_unetr", "43.2", "12,345",
        ]  # fmt: skip
        costs = text[text.index("LGG on PCM chips: Cost") :]
        assert len(lines_of(costs, "swin_unetr")) == 1

    def test_a_column_that_is_no_cost_is_not_shown_as_one(self, summary):
        summary["my_remark"] = "as before"
        assert "Cost" not in render_summary(summary)
        summary["tiles"] = 120
        text = render_summary(summary) + to_markdown(summary)
        assert "my" not in text and "remark" not in text and "as before" not in text

    def test_markup_in_a_name_is_shown_as_it_is(self, summary):
        summary["model"] = "a[red]b"
        assert "a[red]b" in render_summary(summary)

    def test_tasks_and_hardware_are_separate_tables(self, summary):
        other = summary.assign(task="spleen", hardware="reram")
        text = render_summary(pd.concat([summary, other]))
        assert text.index("LGG on PCM chips: Dice") < text.index("spleen on ReRAM chips: Dice")

    def test_a_summary_without_a_chip_says_so(self, summary):
        assert render_summary(summary[:0]) == "No network was evaluated on a chip.\n"

    def test_a_summary_read_from_csv_renders_the_same(self, summary, tmp_path):
        summary.to_csv(tmp_path / "summary.csv", index=False)
        assert render_summary(pd.read_csv(tmp_path / "summary.csv")) == render_summary(summary)

    def test_a_summary_that_lacks_columns_is_refused(self, summary):
        with pytest.raises(DataError, match="lacks the columns avm_low"):
            render_summary(summary.drop(columns="avm_low"))


class TestMarkdown:
    def test_every_line_of_the_table_has_the_same_cells(self, summary):
        lines = to_markdown(summary).splitlines()
        table = [line.count("|") for line in lines if line.startswith("|")]
        assert table == [10] * (2 + len(summary)) + [5] * (2 + 3)

    def test_markdown_and_html_in_a_name_are_escaped(self, summary):
        summary["model"] = "a|b<script>"
        assert r"a\|b\<script\>" in to_markdown(summary)

    def test_an_estimate_without_an_interval_stands_alone(self, summary):
        summary["dice_t0_low"] = np.nan
        first = to_markdown(summary).splitlines()[4]
        assert f"| {summary.loc[0, 'dice_t0']:.3f} |" in first
