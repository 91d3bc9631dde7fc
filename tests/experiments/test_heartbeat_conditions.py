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


NETWORKS = {
    "s4d": {"features": 4, "state": 2, "layers": 1},
    "s4d_ncp": {
        **{"features": 4, "state": 2, "layers": 1, "pool": 8},
        **{"units": 7, "outputs": 3},
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, experiment):
    """Evaluations of small networks on undisturbed signals, and on lead II alone."""
    root = tmp_path_factory.mktemp("conditions")
    options = {"phantom_patients": 10, "phantom_size": 32}
    (setting,) = experiment.CONDITIONS["leads"]["lead II only"]
    missing = setting.partition("=[")[2].rstrip("]").split(", ")
    assert len(missing) == 11
    found = {}
    for name, further in (("undisturbed", {}), ("lead II only", {"missing_leads": missing})):
        config = TaskConfig("phantom_ecg", options=options | further, root=root)
        checkpoints = tuple(saved(model, config.load(), root) for model in NETWORKS)
        sweep = SweepConfig(chips=2, times_s=(DAY_S,))
        found[name] = root / name
        with pytest.warns(UserWarning, match="stays digital"):
            evaluate(Experiment(config, checkpoints, sweep=sweep, examples=0, out=found[name]))
    return found


def saved(model, task, root):
    """Return the checkpoint of a network with random weights."""
    torch.manual_seed(0)
    shape = {"in_channels": 12, "out_channels": 4, "spatial_dims": 1}
    network = build_model(model, **shape, **NETWORKS[model])
    info = CheckpointInfo(
        model, 12, 4, 1, "digital", task.name, task.classes, options=NETWORKS[model]
    )
    return save_checkpoint(root / f"{model}.safetensors", network, info)


def mean_score(folder, model, *, on_chip):
    """Return the AUROC of a network, the mean over classes, patients and chips."""
    table = pd.read_parquet(folder / "results.parquet")
    rows = table[(table["model"] == model) & (table["time_s"].notna() == on_chip)]
    return rows.groupby("class")["value"].mean().mean()


def test_a_row_has_the_estimates_and_the_paired_difference_of_a_condition(experiment, folders):
    rows = experiment.rows_of(folders)
    assert [(row["network"], row["signals"]) for row in rows] == [
        ("digitally trained S4D", "undisturbed"),
        ("digitally trained S4D", "lead II only"),
        ("digitally trained S4D-NCP", "undisturbed"),
        ("digitally trained S4D-NCP", "lead II only"),
    ]
    last = "minus undisturbed, after a day"
    for model, (first, second) in zip(NETWORKS, (rows[:2], rows[2:]), strict=True):
        assert first[last] == ""
        assert second["AUROC digitally"] != first["AUROC digitally"]
        for column, on_chip in (("AUROC digitally", False), ("after a day", True)):
            means = [mean_score(each, model, on_chip=on_chip) for each in folders.values()]
            for row, mean in zip((first, second), means, strict=True):
                assert float(row[column].split()[0]) == pytest.approx(mean, abs=6e-4)
        assert float(second[last].split()[0]) == pytest.approx(means[1] - means[0], abs=6e-4)


def test_networks_are_compared_with_the_first_one_under_each_condition(experiment, folders):
    rows = experiment.comparisons_of(folders)
    assert [(row["network"], row["minus"], row["signals"]) for row in rows] == [
        ("digitally trained S4D-NCP", "S4D", "undisturbed"),
        ("digitally trained S4D-NCP", "S4D", "lead II only"),
    ]
    for column, on_chip in (("digitally", False), ("after a day", True)):
        first, second = (
            mean_score(folder, "s4d_ncp", on_chip=on_chip)
            - mean_score(folder, "s4d", on_chip=on_chip)
            for folder in folders.values()
        )
        assert float(rows[0][column].split()[0]) == pytest.approx(first, abs=6e-4)
        assert float(rows[1][column].split()[0]) == pytest.approx(second, abs=6e-4)
        assert abs(second - first) > 2e-3
        last = f"minus undisturbed, {column}"
        assert rows[0][last] == ""
        assert float(rows[1][last].split()[0]) == pytest.approx(second - first, abs=6e-4)
        assert "nan" not in rows[1][last]
