import numpy as np
import pandas as pd
import pytest

from analogmed.report import render_evaluation, render_summary
from analogmed.report.tables.terminal import shown_times

LONG = "my_hospital.networks.attention:factory_of_a_network_with_a_very_long_name_indeed"
DAY_S, MONTH_S = 86_400.0, 2_592_000.0


def line_of(text, name):
    (line,) = (line for line in text.splitlines() if line.strip().startswith(name))
    return line.split()


def named(table, model):
    return table.assign(model=table["model"].replace("unet", model))


def test_a_network_has_one_line_with_its_drop_and_the_interval(summary, curves):
    text = render_evaluation(summary, curves)
    for training, words in (("hwa", "hardware-aware"), ("digital", "digitally trained")):
        rows = (summary["model"] == "unet") & (summary["training"] == training)
        row = summary[rows].iloc[0]
        columns = ("dice_own_digital", "dice_t0", "dice_1d", "dice_1mo", "drop_1d")
        low, high = row["drop_1d_low"], row["drop_1d_high"]
        interval = f"({low:.3f} to {high:.3f})"
        expected = [f"{row[column]:.3f}" for column in columns] + interval.split()
        assert line_of(text, f"U-Net, {words}")[-len(expected) :] == expected


@pytest.mark.parametrize("model", ["unet", LONG])
def test_it_fits_80_columns_and_a_name_is_whole(summary, curves, model):
    text = render_evaluation(named(summary, model), named(curves, model))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text and "\u2026" not in text
    first_column = "".join(line[:30].strip() for line in text.splitlines())
    assert model in first_column or model == "unet"


def test_the_widest_intervals_fit_80_columns(summary, curves):
    curves[["drift_drop", "drift_drop_low", "drift_drop_high"]] = -0.444, -0.555, 0.333
    text = render_evaluation(named(summary, LONG), named(curves, LONG))
    assert "-0.444 (-0.555 to 0.333)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_times_are_those_that_the_hardware_has(summary, curves):
    assert shown_times([0.0, 3_600.0, DAY_S, MONTH_S, 12 * MONTH_S]) == [0.0, DAY_S, MONTH_S]
    assert shown_times([172_800.0, 1.0, DAY_S]) == [1.0, DAY_S, 172_800.0]
    assert shown_times([DAY_S]) == [DAY_S]
    head = render_evaluation(summary, curves[curves["time_s"].isin([1.0, DAY_S, 604_800.0])])
    assert "drop in 1 day" in head and "1 s" in head and "chip" not in head.splitlines()[3]
    without_a_day = render_evaluation(summary, curves[curves["time_s"].isin([0.0, 1.0])])
    assert "drop in 1 s" in without_a_day


def test_a_network_without_a_chip_has_dashes(summary, curves):
    failed = (curves["model"] == "unet") & (curves["training"] == "hwa")
    text = render_evaluation(summary, curves[~failed])
    assert line_of(text, "U-Net, hardware-aware")[-4:] == ["\u2013"] * 4


def test_missed_structures_are_counted_in_words(summary, curves):
    assert "No network misses a structure on chips after 1 day." in render_evaluation(
        summary, curves
    )
    summary.loc[0, ["missed", "missed_of"]] = 3, 24
    text = render_evaluation(summary, curves)
    assert "of all structures on all chips: U-Net, digitally trained 3 of 24." in " ".join(
        text.split()
    )
    as_read = render_evaluation(summary.astype({"missed": "float64"}), curves)
    assert " 3 of 24." in " ".join(as_read.split())
    summary["missed"] = pd.array([pd.NA] * len(summary), dtype="Int64")
    assert "misse" not in render_evaluation(summary, curves).lower()


def test_large_values_have_one_decimal_and_say_that_lower_is_better(summary, curves):
    names = {name: name.replace("dice", "hd95") for name in summary.columns}
    summary = summary.rename(columns=names).assign(hd95_own_digital=12.345)
    text = render_evaluation(summary, curves.assign(metric="hd95"))
    assert " 12.3 " in text and "rise in 1 day" in text
    assert "HD95: lower is better." in text


def test_the_caption_names_the_reference_of_drops_and_each_word_of_the_heads(summary, curves):
    text = render_evaluation(summary, curves)
    assert "\ndrop: against the digitally trained network without a chip, paired." in text
    hwa, note = summary["training"] == "hwa", "no digitally trained baseline: own digital run"
    own = summary.assign(note=np.where(hwa, note, ""))
    assert "\ndrop: against the same network without a chip, paired." in render_evaluation(
        own[hwa], curves
    )
    words = " ".join(render_evaluation(own, curves).split())
    assert "without a chip, or else the same network, paired." in words
    further = {c: c.replace("dice", "hd95") for c in summary if "dice" in c} | {
        c: f"hd95_{c}" for c in summary if c.startswith(("drop_", "noise_", "avm", "gain_"))
    }
    both = summary.assign(**{new: summary[old] for old, new in further.items()})
    curves = pd.concat([curves, curves.assign(metric="hd95")])
    assert "\ndrop, rise: against" in render_evaluation(both, curves)


def test_notes_and_kinds_of_chip_are_shown(summary, curves):
    summary.loc[1, "note"] = "7 of 8 cases are in every run"
    other = summary.assign(hardware="reram"), curves.assign(hardware="reram")
    both = pd.concat([summary, other[0]]), pd.concat([curves, other[1]])
    text = render_evaluation(*both)
    assert text.index("LGG on PCM chips: Dice") < text.index("LGG on ReRAM chips: Dice")
    assert "unet, hwa: 7 of 8 cases are in every run." in text
    assert text.count("6 patients, 4 chips per network. Intervals: 95 %") == 1
    assert text.count("Only 6 patients: the intervals include the true value less often") == 1


def test_a_change_of_all_chips_is_named_once(summary, curves):
    changed = "the chips differ from their preset: out_noise 0.1"
    text = render_evaluation(summary.assign(note=changed), curves)
    assert text.count("differ from their preset") == 1 and f"\nT{changed[1:]}." in text
    one = summary.assign(note=[changed, *[""] * (len(summary) - 1)])
    assert f": {changed}." in render_evaluation(one, curves)


def test_intervals_are_announced_only_where_there_are_some(summary, curves):
    without = curves.assign(drift_drop_low=np.nan, drift_drop_high=np.nan)
    assert "Intervals: 95 %" in render_evaluation(summary, curves)
    assert "Intervals:" not in render_evaluation(summary, without)


def test_costs_are_shown_on_request_only(summary, curves):
    summary["tiles"] = np.repeat([120, 300, 12345], 2)
    assert "12,345" not in render_evaluation(summary, curves)
    with_costs = render_evaluation(summary, curves, costs=True)
    assert "LGG on PCM chips: Cost" in with_costs and "12,345" in with_costs
    assert with_costs.endswith(render_summary(summary)[-40:])


def test_a_summary_without_a_chip_says_so(summary, curves):
    assert render_evaluation(summary[:0], curves) == "No network was evaluated on a chip.\n"


def test_classes_with_a_low_digital_score_are_named(summary, curves):
    columns = ["class", "model", "training", "time_s", "metric", "estimate", "low", "high", "level"]
    rows = [(name, "unet", "hwa", np.nan, "dice", 0.0, 0.0, 0.02, 0.95) for name in "abcdef"]
    text = render_evaluation(summary, curves, pd.DataFrame(rows, columns=columns))
    assert "No network misses a structure on chips after 1 day." in text
    words = " ".join(text.split())
    assert "The digital Dice of a of the hardware-aware U-Net is 0.000" in words
    assert words.count("The digital Dice of") == 4
    assert "\n2 more of such classes: --wide true.\n" in text
    assert "0.000 to 0.020" in text, "an interval stays in one line"
    assert "The digital Dice of" not in render_evaluation(summary, curves, pd.DataFrame())
