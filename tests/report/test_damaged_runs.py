"""Damaged or manually edited run folders cause an error that names the file and the place."""

import re
import resource
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analogmed.cli.exit_status import UNFORESEEN
from analogmed.cli.main import run_command
from analogmed.foundation.errors import AnalogmedError, DataError
from analogmed.report import runs
from analogmed.report import writer as page
from analogmed.report.figures import maps as uncertainty_maps
from analogmed.report.kinds.registry import kind_of
from analogmed.report.runs import read_run
from analogmed.report.writer import InconsistentRunError, write_report
from analogmed.tables import table as tables
from analogmed.tables.table import Columns, read_table

main = partial(run_command, "report")

CELLS = [
    "", "x", "nan", "inf", "-1", "0", "1e308", "-1e308", "1e14", "1e-320", "9" * 400, "True",
    "\x07", "<b>", "$\\frac$", "=1+1", "{{7*7}}", "\u202e\U0001f600", "a" * 20_000, "1_000",
    "0x10", "1,5",
]  # fmt: skip
SETTINGS = [
    "task: 3\n", "task: [1]\n", "a: &a [*a]\n", "\x00", "[]", "seed: 2024-13-45\n",
    "x: !!int abc\n", "hardware: {preset: {a: 1}}\n", "sweep: text\n",
]  # fmt: skip
ENVIRONMENTS = [
    "[]", "{", "[" * 100_000, '{"versions": 1}', '{"command": 5}', '{"git": []}', '{"time": 3}',
    '{"versions": {"analogmed": [1]}}',
]  # fmt: skip


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path / "run")


def edit(path, change):
    """Change a table as text: all cells are strings."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("name", "column", "cell", "expected"),
    [
        ("summary", "dice_1d", "good", "a finite number or an empty cell, got 'good'"),
        ("summary", "dice_1d_low", "inf", "a finite number or an empty cell, got 'inf'"),
        ("summary", "level", "True", "a finite number or an empty cell, got 'True'"),
        ("summary", "note", "\x07", "text without control characters"),
        ("summary", "note", "u" * 20_000, "a shorter text"),
        ("summary", "model", "u" * 201, "a name of 1 to 200 characters"),
        ("summary", "model", "", "a name of 1 to 200 characters"),
        ("summary", "tiles", "many", "a finite number or an empty cell, got 'many'"),
        ("summary", "n_patients", "9" * 400, "a finite number or an empty cell, got '99"),
        ("curves", "time_s", "1e300", "a finite number or an empty cell, got '1e"),
        ("time_to_failure", "censored", "perhaps", "True or False, got 'perhaps'"),
    ],
)
def test_a_cell_that_does_not_fit_is_named_by_file_line_and_column(
    run, name, column, cell, expected
):
    def change(table):
        table.loc[2, column] = cell
        return table

    edit(run / f"{name}.csv", lambda table: change(table.assign(tiles="9")))
    with pytest.raises(DataError) as error:
        read_run(run)
    assert f"{run / name}.csv, line 4, column '{column}': expected {expected}" in str(error.value)


@pytest.mark.slow
def test_each_column_that_a_page_needs_is_missed_by_name(run):
    for name in ("summary", "curves", "comparison", "time_to_failure"):
        intact = (run / f"{name}.csv").read_text()
        (table,) = (one for one in kind_of("evaluation").tables if one.name == name)
        columns = table.columns_for(intact.splitlines()[0].split(","))
        for column in columns.required:
            edit(run / f"{name}.csv", lambda table, column=column: table.drop(columns=column))
            with pytest.raises(DataError, match=rf"{name}.csv: lacks the columns {column}\."):
                table.read(run)
            (run / f"{name}.csv").write_text(intact)


@pytest.mark.parametrize("name", ["summary", "curves", "comparison", "time_to_failure"])
def test_a_table_without_rows_is_named(run, name):
    edit(run / f"{name}.csv", lambda table: table.iloc[:0])
    with pytest.raises(DataError, match=rf"{name}.csv: contains no row"):
        read_run(run)


@pytest.mark.parametrize("name", ["summary", "curves", "comparison", "time_to_failure"])
def test_a_repeated_row_is_named(run, name):
    edit(run / f"{name}.csv", lambda table: pd.concat([table, table.iloc[[1]]]))
    line = len((run / f"{name}.csv").read_text().splitlines())
    with pytest.raises(DataError, match=rf"{name}\.csv, line {line}: repeats the task, model"):
        read_run(run)


def test_a_table_that_does_not_fit_a_figure_is_named_with_the_folder(run):
    edit(run / "curves.csv", lambda table: table[table["hardware"] == "digital"])
    with pytest.raises(DataError, match=rf"{run}: nothing to draw: the curves have no row"):
        write_report([run])


def test_a_table_beyond_the_limits_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_text("a\n" + "1\n" * 11)
    monkeypatch.setattr(tables, "MOST_ROWS", 10)
    with pytest.raises(DataError, match="at most 10 rows"):
        read_table(path, Columns(numbers=("a",)))
    monkeypatch.setattr(tables, "MOST_BYTES", 20)
    with pytest.raises(DataError, match="too large"):
        read_table(path, Columns(numbers=("a",)))


def test_more_networks_than_a_page_can_show_are_refused(run, monkeypatch):
    monkeypatch.setattr(runs, "MOST_NETWORKS", 2)
    with pytest.raises(DataError, match=r"networks are too many for a page; expected at most 2"):
        read_run(run)


def test_a_case_called_na_is_no_missing_value(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("case,value\nNA,\n,1\n")
    found = read_table(path, Columns(texts=("case",), numbers=("value",)))
    assert found["case"].tolist() == ["NA", ""]
    np.testing.assert_array_equal(found["value"], [np.nan, 1.0])


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("experiment.yaml", "task: 3", "entry 'task': expected a mapping, got int"),
        ("experiment.yaml", "hardware: pcm", "entry 'hardware': expected a mapping, got str"),
        ("experiment.yaml", "sweep: [1]", "entry 'sweep': expected a mapping, got list"),
        ("environment.json", '{"versions": 1}', "entry 'versions': expected a mapping, got int"),
        ("environment.json", '{"git": []}', "entry 'git': expected a mapping, got list"),
        ("environment.json", '{"command": 5}', "entry 'command': expected a list, got int"),
        ("environment.json", '{"time": 3}', "entry 'time': expected text, got int"),
        ("environment.json", '{"time": "a", "time": "b"}', "time"),
    ],
)
def test_an_entry_of_another_type_is_named_by_file_and_entry(run, file, text, expected):
    (run / file).write_text(text)
    with pytest.raises(DataError) as error:
        read_run(run)
    assert str(error.value).startswith(f"{run / file}")
    assert expected in str(error.value)


def raising(error):
    def broken(*_):
        raise error

    return broken


@pytest.mark.parametrize("error", [KeyError("x"), IndexError("x"), ValueError("x"), TypeError("x")])
def test_an_error_that_damaged_tables_can_cause_names_the_folder(run, monkeypatch, error):
    monkeypatch.setattr(page, "findings", raising(error))
    name = type(error).__name__
    with pytest.raises(
        InconsistentRunError, match=rf"{run}: .*do not fit each other \({name}: '?x'?\)"
    ) as raised:
        write_report([run])
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [AttributeError("x"), AssertionError("x"), NameError("x"), RuntimeError("x")]
)
def test_a_fault_of_the_code_is_not_taken_for_a_damaged_run(run, monkeypatch, capsys, error):
    monkeypatch.setattr(page, "findings", raising(error))
    with pytest.raises(type(error)):
        write_report([run])
    assert main([str(run)]) == UNFORESEEN
    assert f"did not expect this error: {type(error).__name__}: x" in capsys.readouterr().err


def test_the_message_names_the_file_of_the_traceback(run, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(page, "findings", raising(KeyError("surprise")))
    assert main([str(run)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run}: the files of the run do not fit each other (KeyError:")
    log = Path(re.search(r"report it with its traceback, which is in (\S+\.log)\.\n", error)[1])
    assert "in broken\n" in log.read_text()


def test_an_example_that_takes_too_much_memory_is_refused(run, monkeypatch):
    monkeypatch.setattr(uncertainty_maps, "_MOST_BYTES", 1_000)
    with pytest.raises(
        DataError, match=r"no example case: .*bytes of arrays, expected at most 1,0"
    ):
        read_run(run)


def test_a_damaged_run_ends_the_program_with_1_and_a_sentence(run, capsys):
    edit(run / "summary.csv", lambda table: table.drop(columns="level"))
    assert main([str(run)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run}/summary.csv: lacks the columns level")
    assert not (run / "report.html").exists()


def mutations():
    """A file of a run, and what happens to it."""
    names = place = st.integers(0, 10_000)
    return st.one_of(
        st.tuples(st.just("cell"), names, place, place, st.sampled_from(CELLS)),
        st.tuples(st.sampled_from(["drop", "double", "text"]), names, place),
        st.tuples(st.sampled_from(["rows", "repeat", "shuffle", "tail"]), names, place),
        st.tuples(st.just("bytes"), names, place, st.binary(max_size=4)),
        st.tuples(st.just("settings"), st.sampled_from(SETTINGS)),
        st.tuples(st.just("environment"), st.sampled_from(ENVIRONMENTS)),
        st.tuples(st.just("example"), place, st.binary(min_size=1, max_size=4)),
    )


def damage(folder, kind, *rest):
    if kind == "settings":
        (folder / "experiment.yaml").write_text(rest[0])
        return
    if kind == "environment":
        (folder / "environment.json").write_text(rest[0])
        return
    if kind == "example":
        for path in (folder / "examples").glob("*.npz"):
            put_bytes(path, *rest)
        return
    tables = sorted(folder.glob("*.csv"))
    path = tables[rest[0] % len(tables)]
    if kind == "bytes":
        put_bytes(path, *rest[1:])
    elif kind == "tail":
        path.write_bytes(path.read_bytes()[: rest[1] % path.stat().st_size])
    else:
        edit(path, lambda table: changed(table, kind, *rest[1:]))


def put_bytes(path, place, content):
    data = bytearray(path.read_bytes())
    start = place % len(data)
    data[start : start + max(len(content), 1)] = content
    path.write_bytes(data)


def changed(table, kind, place, column=0, cell=""):
    name = table.columns[(column if kind == "cell" else place) % len(table.columns)]
    if kind == "cell":
        table.loc[place % len(table), name] = cell
    elif kind == "drop":
        table = table.drop(columns=name)
    elif kind == "text":
        table[name] = "text"
    elif kind == "double":
        table = pd.concat([table, table[[name]]], axis=1)
    elif kind == "rows":
        table = table.iloc[: place % (len(table) + 1)]
    elif kind == "repeat":
        table = pd.concat([table] * (1 + place % 50))
    elif kind == "shuffle":
        table = table.sample(frac=1.0, random_state=place)
    return table


@pytest.fixture(scope="module")
def intact(make_run, tmp_path_factory):
    """An evaluation of one model, so that a page takes a second."""
    folder = make_run(tmp_path_factory.mktemp("intact") / "run")
    for name in ("summary", "curves", "time_to_failure", "comparison"):
        edit(folder / f"{name}.csv", lambda table: table[table["model"] == table["model"].iloc[0]])
    return folder


def many(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")
@many(400)
@given(mutations())
def test_no_damage_ends_in_a_traceback_a_hang_or_a_file_elsewhere(
    intact, tmp_path_factory, mutation
):
    assert_read_or_refused(intact, tmp_path_factory.mktemp("damaged"), mutation)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", ["placement", "sensitivity", "mitigation", "uncertainty", "training"]
)
@many(100)
@given(mutations())
def test_no_damage_of_another_kind_of_run_does(kind, tables_of, tmp_path_factory, mutation):
    folder = tmp_path_factory.mktemp(kind)
    run = folder / "intact"
    run.mkdir()
    for name, table in tables_of(kind).items():
        table.to_csv(run / f"{name}.csv", index=False)
    assert read_run(run).kind == kind
    assert_read_or_refused(run, folder, mutation)


def assert_read_or_refused(intact, folder, mutation):
    """Damage a copy of a run in a folder; its page is written, or an error names the cause."""
    run = folder / "run"
    shutil.copytree(intact, run)
    damage(run, *mutation)
    before = {path for path in folder.rglob("*") if path.is_file()}
    start = time.process_time()
    try:
        written = write_report([run])
    except AnalogmedError as error:
        written = []
        assert str(error)
    assert time.process_time() - start < 10.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20
    after = {path for path in folder.rglob("*") if path.is_file()}
    assert after - before == set(written)
    shutil.rmtree(folder)
