"""A table checks its columns and types when it is written, as its reader does."""

import importlib
import pkgutil

import pandas as pd
import pytest

from analogmed import tables
from analogmed.foundation.errors import DataError
from analogmed.models.genotype import Genotype, Level
from analogmed.tables.search import TRACE
from analogmed.tables.table import LONGEST_NAME, Columns, Table

TABLE = Table(
    "steps", Columns(names=("layer",), texts=("note",), numbers=("drop",), flags=("kept",))
)
ROW = {"layer": "head", "note": "", "drop": 0.5, "kept": True}


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("drop", ["0.5", "0.25"], "expected numbers, got '0.5', '0.25'"),
        ("drop", [True, False], "expected numbers, got True, False"),
        ("kept", ["True", "False"], "expected True and False, got 'True', 'False'"),
        ("kept", [True, None], "expected True and False, got True, None"),
        ("layer", ["head", ""], "expected a name in every row, got 'head', ''"),
        ("layer", ["head", None], "expected a name in every row, got 'head', None"),
    ],
)
def test_a_column_of_another_type_is_an_error_that_names_it_and_nothing_is_written(
    column, values, expected, tmp_path
):
    table = pd.DataFrame([ROW, ROW]).assign(**{column: pd.Series(values, dtype=object)})
    with pytest.raises(DataError, match=f"column '{column}': {expected}"):
        TABLE.write(table, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"steps\.csv: the table to write lacks the columns drop"):
        TABLE.write(pd.DataFrame([ROW]).drop(columns="drop"), tmp_path)


@pytest.mark.parametrize("numbers", [[0.5, None], pd.array([1, None], dtype="Int64"), [None, None]])
def test_a_table_that_is_written_can_be_read(numbers, tmp_path):
    TABLE.write(pd.DataFrame([ROW, ROW]).assign(drop=numbers), tmp_path)
    found = TABLE.read(tmp_path)
    assert found["drop"].isna().tolist() == pd.isna(pd.Series(numbers)).tolist()
    assert found["kept"].tolist() == [True, True]
    assert found["note"].tolist() == ["", ""]
    assert not (tmp_path / "steps.parquet").exists()


def ordered_tables():
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(tables.__path__, "analogmed.tables.")
    ]
    found = [value for each in modules for value in vars(each).values() if isinstance(value, Table)]
    return [table for table in found if table.order]


def test_a_table_has_the_columns_that_its_readers_need():
    found = ordered_tables()
    assert {"curves", "comparison", "operations"} <= {table.name for table in found}
    for table in found:
        assert len(set(table.order)) == len(table.order), table.name
        assert {*table.columns.required, *table.columns.key} <= {*table.order}, table.name


def test_rows_become_a_table_with_its_columns_in_their_order():
    table = Table("steps", order=("layer", "drop", "note"))
    frame = table.frame([{"note": "", "layer": "head"}])
    assert list(frame) == ["layer", "drop", "note"]
    assert frame["drop"].isna().all()
    assert list(table.frame([])) == ["layer", "drop", "note"]


def test_a_traced_genotype_is_read_back_whatever_its_length(tmp_path):
    genotype = Genotype((Level("C", 8, 3),) * 5).to_json()
    assert len(genotype) > LONGEST_NAME
    TRACE.write(TRACE.frame([{"epoch": 1, "genotype": genotype, "score": 0.5}]), tmp_path)
    assert TRACE.read(tmp_path)["genotype"].item() == genotype
