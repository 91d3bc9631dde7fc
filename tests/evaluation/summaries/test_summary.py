import numpy as np
import pandas as pd
import pytest

from analogmed.evaluation.statistics.intervals import TOO_SMALL
from analogmed.evaluation.summaries.summary import COLUMNS, over_time, summarise
from analogmed.foundation.errors import DataError
from analogmed.metrics.notes import note_with_batch
from analogmed.tables.estimates import summary_estimates

DAY_S, MONTH_S = 86_400.0, 2_592_000.0
TIMES_S = (0.0, 1.0, DAY_S, MONTH_S)
LOSS = dict(zip(TIMES_S, (0.10, 0.12, 0.20, 0.27), strict=True))
CHIP_EFFECTS = np.array([-0.02, 0.0, 0.02])
DIGITAL = {"digital": 0.90, "hwa": 0.88}
CASES = [(f"case{i}", f"patient{i // 2}", 0.01 * (i - 3.5)) for i in range(8)]


def results(*, trainings=("digital", "hwa"), times_s=TIMES_S, chips=3, classes=("tumour",)):
    """Dice: training and case effect run digitally; on chip less the loss, plus a chip effect."""
    rows = []
    for training in trainings:
        for case, patient, effect in CASES:
            for name in classes:
                row = {
                    "task": "lgg", "model": "unet", "training": training, "case": case,
                    "patient": patient, "class": name, "metric": "dice", "unit": "1", "note": "",
                }  # fmt: skip
                value = DIGITAL[training] + effect
                digital = {"hardware": "digital", "chip": None, "time_s": np.nan, "read": None}
                rows.append(row | digital | {"value": value})
                share = 1.0 if training == "digital" else 0.5
                for chip in range(chips):
                    for time_s in times_s:
                        place = {"hardware": "pcm", "chip": chip, "time_s": time_s}
                        on_chip = value - share * LOSS[time_s] + share * CHIP_EFFECTS[chip]
                        for read, offset in enumerate((-0.001, 0.001)):
                            rows.append(row | place | {"read": read, "value": on_chip + offset})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"chip": "Int64", "read": "Int64"})


def row_of(summary, training):
    return summary[summary["training"] == training].iloc[0]


def with_absent_structures(table, found_digitally):
    """The first two patients have no tumour; digitally one is found in some of their cases."""
    absent = table["patient"].isin(["patient0", "patient1"])
    found = (table["hardware"] == "digital") & table["case"].isin(found_digitally)
    table.loc[absent, "note"] = np.where(found, "spurious structure", "both empty")[absent]
    table.loc[absent, "value"] = np.where(found, 0.0, np.nan)[absent]
    return table


def with_failed_chips(table, chips):
    failed = table["chip"].isin(chips).to_numpy()
    return table.assign(
        value=table["value"].mask(failed), note=table["note"].mask(failed, "out of memory")
    )


class TestSummary:
    def test_each_estimate_is_its_definition(self):
        found = row_of(summarise(results(), n_boot=200), "digital")
        assert found["dice_digital"] == pytest.approx(0.90)
        assert found["dice_t0"] == pytest.approx(0.80)
        assert found["dice_1d"] == pytest.approx(0.70)
        assert found["dice_1mo"] == pytest.approx(0.63)
        assert found["dice_1d_std"] == pytest.approx(CHIP_EFFECTS.std(ddof=1))
        assert found["noise_drop"] == pytest.approx(0.10)
        assert found["avm"] == pytest.approx(0.63 - 0.78)
        assert found["normalised_dice_1d"] == pytest.approx(0.70 / 0.90)
        assert (found["drop_1d"], found["drop_1mo"]) == pytest.approx((0.20, 0.27))
        assert (found["n_patients"], found["n_chips"], found["note"]) == (4, 3, "")

    def test_structures_that_are_not_there_are_in_no_mean_and_are_counted(self):
        whole = results()
        kept = whole[~whole["patient"].isin(["patient0", "patient1"])]
        table = with_absent_structures(whole, found_digitally=["case0", "case1", "case2"])
        found, expected = (row_of(summarise(t, n_boot=50), "digital") for t in (table, kept))
        for name in ("dice_digital", "dice_1d", "noise_drop", "normalised_dice_1d"):
            assert found[name] == pytest.approx(expected[name])
        assert found["n_patients"] == 2
        assert (found["missed"], found["missed_of"]) == (0, 24)
        assert "0 of 24 predictions of structures that the reference lacks" in found["note"]

    def test_cases_without_any_structure_are_refused(self):
        table = results().assign(note="both empty", value=np.nan)
        with pytest.raises(DataError, match="unet, digital: no case has a dice in every run"):
            summarise(table, n_boot=50)

    def test_the_reference_is_the_digital_trained_network_run_digitally(self):
        found = row_of(summarise(results(), n_boot=50), "hwa")
        assert found["dice_digital"] == pytest.approx(0.90)
        assert found["dice_own_digital"] == pytest.approx(0.88)
        assert found["dice_t0"] == pytest.approx(0.83)
        assert found["noise_drop"] == pytest.approx(0.90 - 0.83)

    def test_the_gain_of_a_training_is_over_the_digital_trained_network_on_the_chip(self):
        summary = summarise(results(), n_boot=2000)
        found = row_of(summary, "hwa")
        assert found["gain_1d"] == pytest.approx((0.88 - 0.10) - (0.90 - 0.20))
        assert found["gain_1d"] == pytest.approx(found["dice_1d"] - 0.70)
        assert found["gain_1d_low"] < found["gain_1d"] < found["gain_1d_high"]
        digital = row_of(summary, "digital")
        assert digital[["gain_1d", "gain_1d_low", "gain_1d_high"]].isna().all()
        assert list(summary["note"]) == ["", ""]

    def test_the_gain_pairs_patients_and_chips(self):
        """A chip is as good for both networks: how good is no part of their difference."""
        table = results()
        on_chip = table["chip"].notna()
        gain = table["chip"].fillna(0).astype(float) * 0.02
        table = table.assign(value=table["value"].where(~on_chip, table["value"] + gain))
        hwa = on_chip & (table["training"] == "hwa")
        moved = table.assign(
            chip=table["chip"].where(~hwa, table["chip"].map({0: 2, 1: 0, 2: 1})).astype("Int64")
        )
        paired, apart = (row_of(summarise(t, n_boot=500), "hwa") for t in (table, moved))
        assert paired["gain_1d"] == pytest.approx(apart["gain_1d"])
        width, other = (row["gain_1d_high"] - row["gain_1d_low"] for row in (paired, apart))
        assert width < 0.7 * other

    def test_the_gain_is_over_the_cases_of_both_networks(self):
        table = results()
        on_chip = (table["hardware"] == "pcm") & (table["training"] == "hwa")
        found = row_of(summarise(table[~(on_chip & (table["case"] == "case7"))], n_boot=50), "hwa")
        assert found["gain_1d"] == pytest.approx(0.08)

    def test_without_a_digital_trained_network_on_the_chip_there_is_no_gain(self):
        found = row_of(summarise(results(trainings=("hwa",)), n_boot=50), "hwa")
        assert found[["gain_1d", "gain_1d_low", "gain_1d_high"]].isna().all()

    def test_without_a_digital_trained_network_the_reference_is_its_own_digital_run(self):
        found = row_of(summarise(results(trainings=("hwa",)), n_boot=50), "hwa")
        assert found["dice_digital"] == found["dice_own_digital"] == pytest.approx(0.88)
        assert found["note"] == "no digitally trained baseline: own digital run"

    def test_without_any_digital_run_there_is_no_drop(self):
        table = results()
        found = summarise(table[table["hardware"] == "pcm"], n_boot=50)
        assert found[["dice_digital", "noise_drop", "normalised_dice_1d"]].isna().all(axis=None)
        assert found["dice_1d"].notna().all()
        assert set(found["note"]) == {"no baseline"}

    def test_every_estimate_stands_between_its_bounds(self):
        summary = summarise(results(), n_boot=500)
        assert (summary[["dice_1d_low", "dice_t0_low"]] >= 0.0).all(axis=None)
        assert (summary[["dice_1d_high", "dice_t0_high"]] <= 1.0).all(axis=None)
        for name in (estimate.column("dice") for estimate in summary_estimates()):
            rows = summary if name != "gain_1d" else summary[summary["training"] == "hwa"]
            assert (rows[f"{name}_low"] <= rows[name] + 1e-12).all(), name
            assert (rows[f"{name}_high"] >= rows[name] - 1e-12).all(), name

    def test_columns_stand_in_the_order_of_the_summary_file(self):
        columns = list(summarise(results(), n_boot=10).columns)
        assert columns[:7] == [
            "task", "model", "training", "hardware",
            "dice_digital", "dice_digital_low", "dice_digital_high",
        ]  # fmt: skip

    def test_a_loss_equal_on_all_chips_and_cases_has_an_avm_without_spread(self):
        found = row_of(summarise(results(), n_boot=200), "digital")
        assert (found["avm_low"], found["avm_high"]) == pytest.approx((-0.15, -0.15))

    def test_a_time_missing_from_the_sweep_is_undefined_and_the_rest_stands(self):
        found = row_of(summarise(results(times_s=(0.0, DAY_S)), n_boot=50), "digital")
        assert np.isnan([found["dice_1mo"], found["avm"], found["avm_low"]]).all()
        assert found["dice_1d"] == pytest.approx(0.70)
        no_day = row_of(summarise(results(times_s=(0.0,)), n_boot=50), "digital")
        assert pd.isna(no_day["missed"])
        assert pd.isna(no_day["dice_1d_std"])

    def test_one_chip_gives_estimates_without_intervals(self):
        found = row_of(summarise(results(chips=1), n_boot=50), "digital")
        assert found["dice_1d"] == pytest.approx(0.70 - 0.02)
        assert np.isnan(found["dice_1d_low"])
        assert found["dice_digital_low"] < 0.90 < found["dice_digital_high"]
        assert found["note"] == TOO_SMALL

    def test_classes_are_averaged_within_a_case_before_cases_are(self):
        table = results(trainings=("digital",), classes=("core", "edema"))
        undefined = (table["class"] == "edema") & (table["case"] != "case0")
        table.loc[undefined, "value"] = np.nan
        table.loc[table["class"] == "core", "value"] += 0.08
        found = row_of(summarise(table, n_boot=50), "digital")
        assert found["dice_digital"] == pytest.approx(0.90 + (7 * 0.08 + 0.04) / 8)

    def test_missed_structures_are_counted_at_one_day(self):
        table = results(trainings=("digital",))
        at_one_day = table["time_s"] == DAY_S
        table.loc[at_one_day & (table["case"] == "case1"), "note"] = "missed structure"
        table.loc[at_one_day & (table["case"] == "case2"), "note"] = "both empty"
        table.loc[(table["time_s"] == 0.0), "note"] = "missed structure"
        found = row_of(summarise(table, n_boot=50), "digital")
        assert (found["missed"], found["missed_of"]) == (3 * 2, 7 * 3 * 2)

    def test_cases_that_a_run_lacks_leave_the_comparison_with_a_note(self):
        table = results(trainings=("digital",))
        table = table[(table["hardware"] == "digital") | (table["case"] != "case7")]
        found = row_of(summarise(table, n_boot=50), "digital")
        assert found["note"] == "7 of 8 cases are in every run"
        assert found["noise_drop"] == pytest.approx(0.10)

    def test_failed_evaluations_are_left_out_and_counted(self):
        table = results(trainings=("digital",))
        failed = (table["chip"] == 2) & (table["time_s"] == 0.0) & (table["read"] == 0)
        table.loc[failed.fillna(False), ["value", "note"]] = [np.nan, "out of memory"]
        found = row_of(summarise(table, n_boot=50), "digital")
        assert found["note"] == "8 failed evaluations left out"
        assert found["dice_t0"] == pytest.approx(0.80 + 0.001 / 3)

    def test_failed_chips_are_not_counted_whatever_times_the_sweep_has(self):
        """An array of a time that the sweep lacks has no value on any chip."""
        for times_s in ((0.0, DAY_S), TIMES_S):
            table = results(trainings=("digital",), times_s=times_s)
            table = with_failed_chips(table, (0,))
            assert row_of(summarise(table, n_boot=50), "digital")["n_chips"] == 2
            on_chip = over_time(table, n_boot=50)
            assert set(on_chip.loc[on_chip["hardware"] == "pcm", "n_chips"]) == {2}

    def test_a_sweep_of_failed_chips_counts_none(self):
        table = with_failed_chips(results(trainings=("digital",)), (0, 1, 2))
        found = row_of(summarise(table, n_boot=50), "digital")
        assert (found["n_chips"], found["dice_digital"]) == (0, pytest.approx(0.90))
        on_chip = over_time(table, n_boot=50)
        on_chip = on_chip[on_chip["hardware"] == "pcm"]
        assert set(on_chip["n_chips"]) == {0}
        assert on_chip["estimate"].isna().all()

    def test_a_failed_chip_that_comes_first_has_no_part_in_the_unit(self):
        table = with_failed_chips(results(trainings=("digital",)), (0,))
        table.loc[table["note"] == "out of memory", "unit"] = None
        on_chip = over_time(table[table["chip"].notna()], n_boot=50)
        assert set(on_chip["unit"]) == {"1"}

    def test_values_of_a_smaller_batch_count_and_are_noted(self):
        table = results(trainings=("digital",))
        halved = (table["chip"] == 1) & (table["time_s"] == DAY_S) & (table["read"] == 0)
        marked = table.assign(note=table["note"].mask(halved, note_with_batch("", 4)))
        found, expected = (row_of(summarise(t, n_boot=50), "digital") for t in (marked, table))
        assert found["dice_1d"] == expected["dice_1d"]
        assert (found["missed"], found["missed_of"]) == (0, 48)
        assert found["note"] == (
            "8 evaluations with a smaller batch_size, after running out of memory"
        )

    def test_other_rows_and_their_order_change_nothing(self):
        table = results()
        shuffled = summarise(table.sample(frac=1.0, random_state=0), n_boot=100)
        expected = summarise(table[table["training"] == "digital"], n_boot=100)
        shuffled = shuffled[shuffled["training"] == "digital"].reset_index(drop=True)
        pd.testing.assert_frame_equal(shuffled, expected)

    def test_a_table_without_a_chip_gives_an_empty_summary(self):
        table = results()
        summary = summarise(table[table["hardware"] == "digital"], n_boot=10)
        assert len(summary) == 0
        assert "dice_1d_low" in summary.columns

    def test_a_table_that_lacks_columns_is_refused(self):
        with pytest.raises(DataError, match="lacks the columns chip, note"):
            summarise(results().drop(columns=["chip", "note"]))

    def test_a_table_read_back_from_csv_gives_the_same_summary(self, tmp_path):
        table = results()
        table.to_csv(tmp_path / "results.csv", index=False)
        again = pd.read_csv(tmp_path / "results.csv")
        expected = summarise(table, n_boot=50)
        pd.testing.assert_frame_equal(summarise(again, n_boot=50), expected)


class TestOverTime:
    def test_each_time_has_its_mean_and_its_drop(self):
        curves = over_time(results(), n_boot=100)
        on_chip = curves[(curves["hardware"] == "pcm") & (curves["training"] == "digital")]
        assert list(on_chip["time_s"]) == list(TIMES_S)
        losses = list(LOSS.values())
        np.testing.assert_allclose(on_chip["estimate"], 0.90 - np.array(losses))
        np.testing.assert_allclose(on_chip["drift_drop"], losses)
        assert (on_chip["low"] < on_chip["estimate"]).all()
        assert (on_chip["drift_drop_high"] >= on_chip["drift_drop"]).all()

    def test_digital_runs_stand_without_a_time(self):
        curves = over_time(results(), n_boot=100)
        digital = curves[curves["hardware"] == "digital"].set_index("training")
        assert digital["time_s"].isna().all()
        np.testing.assert_allclose(digital.loc[["digital", "hwa"], "estimate"], [0.90, 0.88])
        assert (digital["low"] < digital["estimate"]).all()

    def test_the_same_number_has_the_same_interval_as_in_the_summary(self):
        table = results()
        curves, summary = over_time(table, n_boot=100), summarise(table, n_boot=100)
        one_day = curves[(curves["time_s"] == DAY_S) & (curves["training"] == "hwa")].iloc[0]
        row = row_of(summary, "hwa")
        assert (one_day["low"], one_day["high"]) == (row["dice_1d_low"], row["dice_1d_high"])

    def test_a_metric_that_is_not_there_is_refused_with_those_that_are(self):
        with pytest.raises(DataError, match="no metric 'hd95'; it has: dice"):
            over_time(results(), "hd95")


@pytest.fixture(scope="module")
def classified():
    """Summary of contributions to an AUROC, which is undefined for one of two classes."""
    table = results(classes=("edema", "hernia")).assign(metric="auroc")
    hernia = table["class"] == "hernia"
    table = table.assign(
        value=table["value"].mask(hernia), note=table["note"].mask(hernia, "no positive case")
    )
    return row_of(summarise(table, metrics=("auroc",), n_boot=200), "digital")


class TestClassification:
    def test_undefined_classes_are_in_no_mean_and_are_named(self, classified):
        assert classified["auroc_digital"] == pytest.approx(0.90)
        assert classified["note"] == (
            "1 of 2 classes are undefined, and in no mean: hernia (no positive case)"
        )

    def test_what_a_chip_keeps_is_relative_to_chance(self, classified):
        assert classified["normalised_auroc_1d"] == pytest.approx((0.70 - 0.5) / (0.90 - 0.5))

    def test_there_are_no_structures_to_miss(self, classified):
        assert pd.isna(classified["missed"])
        assert pd.isna(classified["missed_of"])
