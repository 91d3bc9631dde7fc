"""The functions of the experiment for the paper's figure 1 that need no training."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from analogmed.data import load_task
from analogmed.evaluation import summarise
from analogmed.evaluation.summaries.summary import COLUMNS

DAY_S = 86_400.0
LOSS = {"digital": 0.3, "hwa": 0.1}
LESS_AT_START = 0.2  # Dice that the networks gained by the second training, digitally
FOLDS = ({"p1": 0.9, "p2": 0.8, "p3": 0.7}, {"p4": 0.5})  # Dice of each patient, digitally


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "figure1")


@pytest.fixture
def task(tiny_task):
    """The settings of a task as the experiment has them: six patients."""
    return {
        "root": str(tiny_task.root),
        "options": json.dumps(tiny_task.options),
        "shares": "[0.6, 0.1, 0.3]",
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Evaluations of two folds, of three patients and of one, on two equal chips."""
    folders = []
    for fold in FOLDS:
        rows = []
        for training, loss in LOSS.items():
            for patient, dice in fold.items():
                row = {
                    "task": "lgg", "model": "unet", "training": training, "hardware": "digital",
                    "chip": None, "time_s": np.nan, "read": None, "case": f"{patient}_1",
                    "patient": patient, "class": "tumour", "metric": "dice", "value": dice,
                    "unit": "1", "note": "",
                }  # fmt: skip
                rows.append(row)
                on_chip = {"hardware": "pcm", "time_s": DAY_S, "read": 0, "value": dice - loss}
                rows += [row | on_chip | {"chip": chip} for chip in range(2)]
        table = pd.DataFrame(rows, columns=COLUMNS).astype({"chip": "Int64", "read": "Int64"})
        folders.append(tmp_path_factory.mktemp("fold"))
        start = table[table["training"] == "digital"]
        start = start.assign(value=start["value"] - LESS_AT_START)
        for name, results in (("eval", table), ("eval-start", start)):
            (folders[-1] / name).mkdir()
            results.to_parquet(folders[-1] / name / "results.parquet")
    return folders


def patients(task):
    """Those of each split, of a task with such settings."""
    options = yaml.safe_load(task["options"])
    found = load_task("phantom_brain", task["root"], split_file=task.get("split_file"), **options)
    return {
        name: {case.patient_id for case in getattr(found, name)}
        for name in ("train", "validation", "test")
    }


@pytest.mark.parametrize("folds", [2, 4, 6])
def test_each_patient_is_tested_once_by_networks_that_never_saw_it(
    experiment, task, tmp_path, folds
):
    everyone = set.union(*patients(task).values())
    tested = []
    for settings, out in experiment.splits("phantom_brain", task, folds, tmp_path):
        assert out.parent == tmp_path
        split = patients(settings)
        assert split["train"] == everyone - split["test"] - split["validation"]
        assert len(split["validation"]) == 1
        assert not split["validation"] & split["test"]
        tested += split["test"]
    assert sorted(tested) == sorted(everyone)
    assert len(tested) == 6


def test_folds_are_of_one_size_or_of_one_patient_less(experiment, task, tmp_path):
    splits = experiment.splits("phantom_brain", task, 4, tmp_path)
    assert [len(patients(settings)["test"]) for settings, _ in splits] == [2, 2, 1, 1]


def test_a_fold_keeps_the_settings_of_the_task_but_its_shares(experiment, task, tmp_path):
    for settings, out in experiment.splits("phantom_brain", task, 2, tmp_path):
        kept = {name: value for name, value in task.items() if name != "shares"}
        assert settings == {**kept, "split_file": str(out / "split.yaml")}


def test_without_folds_the_task_is_as_it_is(experiment, task, tmp_path):
    assert list(experiment.splits("phantom_brain", task, 1, tmp_path)) == [(task, tmp_path)]
    assert not list(tmp_path.iterdir())


def test_folds_that_leave_nobody_to_train_on_are_refused(experiment, tiny_task, tmp_path):
    task = {
        "root": str(tiny_task.root.parent / "three"),
        "options": json.dumps({**tiny_task.options, "phantom_patients": 3}),
    }
    with pytest.raises(SystemExit, match="phantom_brain has 3 patients, not enough for --folds 2"):
        list(experiment.splits("phantom_brain", task, 2, tmp_path))


def test_more_folds_than_patients_are_refused(experiment, task, tmp_path):
    with pytest.raises(SystemExit, match="phantom_brain has 6 patients, not enough for --folds 7"):
        list(experiment.splits("phantom_brain", task, 7, tmp_path))


def test_folds_make_one_row_per_training_with_the_mean_over_all_patients(experiment, folders):
    summary = experiment.summary_of(folders).set_index("training")
    assert summary.index.tolist() == ["digital", "hwa"]
    mean = (0.9 + 0.8 + 0.7 + 0.5) / 4
    for training, loss in LOSS.items():
        row = summary.loc[training]
        assert (row["n_patients"], row["n_chips"]) == (4, 2)
        assert row["dice_digital"] == pytest.approx(mean)
        assert row["dice_1d"] == pytest.approx(mean - loss)
        assert row["normalised_dice_1d"] == pytest.approx((mean - loss) / mean)
    assert summary.loc["hwa", "gain_1d"] == pytest.approx(LOSS["digital"] - LOSS["hwa"])
    kept_of_start = (mean - LOSS["hwa"]) / (mean - LESS_AT_START)
    assert summary.loc["hwa", "kept_of_start"] == pytest.approx(kept_of_start)
    assert np.isnan(summary.loc["digital", "kept_of_start"])


def test_a_row_of_folds_weighs_each_by_its_patients(experiment, folders):
    summary = experiment.summary_of(folders).set_index("training")
    parts = [
        summarise(pd.read_parquet(folder / "eval" / "results.parquet"), n_boot=50).set_index(
            "training"
        )
        for folder in folders
    ]
    for name in ("dice_digital", "dice_1d"):
        weighted = sum(part[name] * part["n_patients"] for part in parts) / 4
        assert summary[name].to_numpy() == pytest.approx(weighted.to_numpy(dtype=float))


def test_both_trainings_of_a_network_stand_side_by_side(experiment, folders):
    summary = experiment.summary_of(folders)
    (row,) = experiment.dice_rows(summary)
    assert row["test data"] == "lgg, 4"
    assert row["digital training: run digitally"] == "0.725"
    assert row["gain"].startswith("+0.200 (")
    (shares,) = experiment.normalised_rows(summary)
    means = {mean["trained"]: mean for mean in experiment.mean_rows(summary)}
    for name, training in (("digital training", "digital"), ("hardware-aware", "hwa")):
        of = summary.set_index("training").loc[training]
        dice = f"{0.725 - LOSS[training]:.3f}"
        interval = f"({of['dice_1d_low']:.3f} to {of['dice_1d_high']:.3f})"
        assert row[f"{name}: 1 day"] == f"{dice} {interval}"
        share = f"{of['normalised_dice_1d']:.3f} ("
        assert shares[f"{name}: 1 day / digital"].startswith(share)
        assert means["digitally" if training == "digital" else name]["1 day"] == dice
