from pathlib import Path

import pandas as pd
import pytest

from analogmed.config import Experiment, TaskConfig
from analogmed.evaluation.studies.mitigation.study import measure_mitigation
from analogmed.evaluation.studies.placement.study import place_layers
from analogmed.evaluation.studies.robustness.study import evaluate
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig, SensitivityConfig
from analogmed.evaluation.studies.sensitivity.study import sensitivity
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig, UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.study import measure_uncertainty
from analogmed.foundation.errors import ConfigError
from analogmed.tables.results import COLUMNS, RESULTS, to_table

ROW = {
    "task": "t",
    "model": "unet",
    "training": "digital",
    "hardware": "digital",
    "chip": None,
    "case": "c",
    "patient": "p",
    "class": "tumour",
    "metric": "dice",
    "value": 0.1 + 0.2,
    "unit": "1",
    "note": "",
}


def test_the_long_table_has_its_columns_in_order_and_typed():
    table = to_table([ROW, ROW | {"chip": 0, "time_s": 0.0, "read": 1}])
    assert {name: str(kind) for name, kind in table.dtypes.items()} == dict(COLUMNS)
    assert list(table) == list(COLUMNS)
    assert table["chip"].isna().tolist() == [True, False]
    assert table["read"].tolist()[1] == 1


def test_an_empty_table_has_the_same_columns():
    assert {name: str(kind) for name, kind in to_table([]).dtypes.items()} == dict(COLUMNS)


def test_both_files_hold_the_table_exactly(tmp_path):
    table = to_table([ROW, ROW | {"chip": 3, "time_s": 1e-3, "read": 0, "note": 'a, "b"\nc'}])
    RESULTS.write(table, tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), table)
    columns = {name: kind for name, kind in COLUMNS.items() if name != "note"}
    found = pd.read_csv(tmp_path / "results.csv", dtype=columns, keep_default_na=True)
    pd.testing.assert_frame_equal(found.drop(columns="note"), table.drop(columns="note"))
    assert found["note"].fillna("").tolist() == table["note"].tolist()


@pytest.mark.parametrize(
    ("program", "settings"),
    [
        (evaluate, Experiment),
        (sensitivity, SensitivityConfig),
        (place_layers, PlacementConfig),
        (measure_uncertainty, UncertaintyConfig),
        (measure_mitigation, MitigationConfig),
    ],
)
def test_a_run_folder_that_cannot_be_written_is_refused_before_data_and_networks_are_read(
    program, settings, tmp_path
):
    (tmp_path / "file").touch()
    nowhere = {"task": TaskConfig("lgg", root=tmp_path / "no data"), "checkpoints": (Path("none"),)}
    for out in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(ConfigError, match="cannot write to"):
            program(settings(**nowhere, out=out))
