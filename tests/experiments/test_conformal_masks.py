"""The experiment on conformal risk control, with a small phantom and few patients."""

import sys

import numpy as np
import pandas as pd
import pytest

from analogmed.data import load_task

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "conformal_masks")


def test_no_patient_of_the_shipped_networks_sets_or_tests_a_threshold(experiment):
    task = experiment.new_patients(3, 2)
    shipped = load_task("phantom_brain")
    known = {c.patient_id for c in (*shipped.train, *shipped.validation, *shipped.test)}
    setting, testing = (
        [case.patient_id for case in cases] for cases in (task.validation, task.test)
    )
    assert (len(setting), len(testing)) == (3, 2)
    assert not known & {*setting, *testing} and not set(setting) & set(testing)
    assert task.train == shipped.train
    image = task.read(task.test[0]).image
    assert all(not np.array_equal(image, shipped.read(case).image) for case in shipped.test)


def test_the_experiment_writes_both_tables_into_its_document(experiment, tmp_path):
    document = tmp_path / "document.md"
    markers = "\n".join(
        f"<!-- {name} -->\n<!-- end of {name} -->" for name in ("conformal-sizes", "conformal")
    )
    document.write_text(markers + "\n")
    settings = {"calibration": 9, "test": 2, "chips": 2, "alpha": 0.4, "draws": 1}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    arguments += ["--trainings", "hwa", "--out", str(tmp_path), "--document", str(document)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["conformal_masks.py", *arguments])
        experiment.main()
    summary = pd.read_csv(tmp_path / "summary-hwa.csv")
    assert set(summary["calibrated"]) == {"digital", "first", "each"}
    assert (summary["n_units"] == 9).all() and (summary["n_patients"] == 2).all()
    text = document.read_text()
    assert text.count("| hardware-aware |") == len(summary) == 10
    assert "| patients | hardware-aware: share missed |" in text
