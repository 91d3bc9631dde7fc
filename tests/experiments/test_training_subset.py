"""The comparison of a training on a subset of the images with one on all of them."""

from itertools import product

import pandas as pd
import pytest

from analogmed.foundation.time_constants import DAY_S, T0_S


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "training_subset")


def results(score):
    """Return results of two trainings, run digitally and on three chips, for nine patients."""
    runs = [(float("nan"), None), *product((T0_S, DAY_S), range(3))]
    return pd.DataFrame(
        {
            "training": training,
            "time_s": time_s,
            "chip": chip,
            "patient": f"p{number}",
            "case": f"c{number}",
            "class": name,
            "metric": "auroc",
            "value": score + (number + (chip or 0)) / 100,
            "note": "",
        }
        for training in ("digital", "hwa")
        for time_s, chip in runs
        for number in range(9)
        for name in ("a", "b")
    )


def test_the_difference_is_that_of_the_same_patients_and_chips(experiment):
    whole, subset = results(0.8), results(0.75)
    table = experiment.compared(whole, subset.sample(frac=1, random_state=0), 0.01)
    assert table[["trained", "run"]].to_numpy().tolist() == [
        [training, run]
        for training in ("digitally trained", "hardware-aware")
        for run in ("digital", "chip, t0", "chip, 1 day")
    ]
    assert set(table["difference"]) == {"-0.050 (-0.050 to -0.050)"}
    assert [text[:5] for text in table["AUROC: all images"][:3]] == ["0.840", "0.850", "0.850"]
    assert [text[:5] for text in table["AUROC: 0.01 of them"][:3]] == ["0.790", "0.800", "0.800"]
