"""Conditions of signals: the rows of the table follow from evaluations of small networks."""

import pandas as pd
import pytest
import torch

from analogmed.config import Experiment, SweepConfig, TaskConfig
from analogmed.evaluation import evaluate
from analogmed.foundation.time_constants import DAY_S
from analogmed.models import build_model
from analogmed.training import CheckpointInfo, save_checkpoint


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "heartbeat_conditions")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, experiment):
    """Evaluations of a small network on undisturbed signals, and on lead II alone."""
    root = tmp_path_factory.mktemp("conditions")
    options = {"phantom_patients": 10, "phantom_size": 32}
    (setting,) = experiment.CONDITIONS["leads"]["lead II only"]
    missing = setting.partition("=[")[2].rstrip("]").split(", ")
    assert len(missing) == 11
    found = {}
    for name, further in (("undisturbed", {}), ("lead II only", {"missing_leads": missing})):
        config = TaskConfig("phantom_ecg", options=options | further, root=root)
        task = config.load()
        torch.manual_seed(0)
        network = build_model(
            "s4d", in_channels=12, out_channels=4, spatial_dims=1, features=4, state=2, layers=1
        )
        info = CheckpointInfo(
            "s4d", 12, 4, 1, "digital", task.name, task.classes,
            options={"features": 4, "state": 2, "layers": 1},
        )  # fmt: skip
        checkpoint = save_checkpoint(root / "net.safetensors", network, info)
        sweep = SweepConfig(chips=2, times_s=(DAY_S,))
        found[name] = root / name
        with pytest.warns(UserWarning, match="stays digital"):
            evaluate(Experiment(config, (checkpoint,), sweep=sweep, examples=0, out=found[name]))
    return found


def test_a_row_has_the_estimates_and_the_paired_difference_of_a_condition(experiment, folders):
    rows = experiment.rows_of(folders)
    assert [(row["network"], row["signals"]) for row in rows] == [
        ("digitally trained S4D", "undisturbed"),
        ("digitally trained S4D", "lead II only"),
    ]
    last = "minus undisturbed, after a day"
    assert rows[0][last] == ""
    means = []
    for row, folder in zip(rows, folders.values(), strict=True):
        table = pd.read_parquet(folder / "results.parquet")
        for column, on_chip in (("AUROC digitally", False), ("after a day", True)):
            values = table[table["time_s"].notna() == on_chip].groupby("class")["value"].mean()
            assert float(row[column].split()[0]) == pytest.approx(values.mean(), abs=6e-4)
        means.append(values.mean())
    assert float(rows[1][last].split()[0]) == pytest.approx(means[1] - means[0], abs=6e-4)
    assert rows[1]["AUROC digitally"] != rows[0]["AUROC digitally"]
