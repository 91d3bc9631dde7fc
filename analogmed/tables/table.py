"""Tables of run folders: columns, writer, and a strict reader.

Files of run folders can be damaged or edited by hand.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from analogmed.foundation.errors import DataError
from analogmed.foundation.files import write_atomically

MOST_BYTES = 64 * 2**20
MOST_ROWS = 200_000
MOST_COLUMNS = 1_000
LONGEST_TEXT = 10_000
LONGEST_NAME = 200
MOST_HEAD = 100_000
"""Largest number of characters of the header."""
LARGEST = 1e15
"""Limit of the absolute value of a number."""
_AGAIN = "Run the program that wrote it again"


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dictionaries by column name, with values of Python types."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


@dataclass(frozen=True)
class Columns:
    """Required columns of a table; pandas infers the types of further ones.

    Attributes:
        names: columns of short text without empty cells.
        texts: columns of text; an empty cell is an empty text.
        numbers: columns of finite numbers; an empty cell is NaN.
        flags: columns of True and False.
        optional: columns of numbers that can be absent.
        key: columns that identify a row; no two rows agree in all of them.
        can_be_empty: whether a table without rows is accepted.
    """

    names: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    can_be_empty: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """All columns that must be present."""
        return (*self.names, *self.texts, *self.numbers, *self.flags)


@dataclass(frozen=True)
class Table:
    """A table of run folders.

    Attributes:
        name: name of its files, without suffix.
        columns: columns that its readers need.
        parquet: whether it is also written as Parquet.
        order: all columns of its files in their order; empty if they follow from the rows.
    """

    name: str
    columns: Columns = Columns()
    parquet: bool = False
    order: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the CSV file."""
        return f"{self.name}.csv"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files in a run folder."""
        return (self.file, *([f"{self.name}.parquet"] if self.parquet else []))

    def columns_for(self, found: Collection[str]) -> Columns:
        """Return the columns of a table that has certain columns."""
        return self.columns

    def frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Return rows as a table with the columns of ``order``, if any; missing cells are NaN."""
        return pd.DataFrame(rows, columns=list(self.order) or None)

    def write(self, table: pd.DataFrame, folder: Path) -> None:
        """Write the table into a folder as CSV and, if it is also Parquet, as that.

        Raises:
            DataError: the table lacks a column that its readers need, or a column of it has
                another type than they expect; nothing is written.
        """
        path = folder / self.file
        columns = self.columns_for(list(map(str, table.columns)))
        require_columns(table, columns.required, f"{path}: the table to write")
        _require_types(table, columns, f"{path}: the table to write")
        write_atomically(path, lambda place: table.to_csv(place, index=False))
        if self.parquet:
            write_atomically(
                path.with_suffix(".parquet"), lambda place: table.to_parquet(place, index=False)
            )

    def read(self, folder: Path, *, texts: Iterable[str] = ()) -> pd.DataFrame:
        """Read the CSV file of a folder; see :func:`read_table`."""
        path = folder / self.file
        return read_table(path, self.columns_for(names_of_columns(path)), texts=texts)


def names_of_columns(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(MOST_HEAD).strip().split(",")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def require_columns(
    table: pd.DataFrame, needed: Iterable[str], what: str = "the table", *, advice: str = ""
) -> None:
    """Raise a DataError that names the columns that a table lacks.

    Args:
        table: any table.
        needed: names of columns.
        what: name of the table in the message.
        advice: end of the message: which table to pass.

    Example:
        >>> require_columns(pd.DataFrame({"model": ["unet"]}), ["model", "tiles"])
        Traceback (most recent call last):
            ...
        analogmed.foundation.errors.DataError: the table lacks the columns tiles
    """
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise DataError(f"{what} lacks the columns {', '.join(missing)}{advice}")


def _require_types(table: pd.DataFrame, columns: Columns, what: str) -> None:
    """Raise a DataError for the first column whose cells its readers would not accept.

    Missing cells fit every type but that of names; every value can be read as a text.
    """
    expected = [
        ((*columns.numbers, *columns.optional), "numbers", _are_numbers),
        (columns.flags, "True and False", _are_flags),
        (columns.names, "a name in every row", _are_names),
    ]
    for names, kind, fits in expected:
        for name in names:
            if name in table.columns and not fits(table[name]):
                found = ", ".join(map(repr, table[name].drop_duplicates().head(3)))
                raise DataError(f"{what}, column '{name}': expected {kind}, got {found}")


def _are_numbers(cells: pd.Series) -> bool:
    if cells.dtype == object:
        known = cells.dropna()
        return all(isinstance(cell, Real) and not isinstance(cell, bool) for cell in known)
    return is_numeric_dtype(cells.dtype) and not is_bool_dtype(cells.dtype)


def _are_flags(cells: pd.Series) -> bool:
    return all(isinstance(cell, bool | np.bool_) for cell in cells)


def _are_names(cells: pd.Series) -> bool:
    return not (cells.isna() | (cells.astype(str) == "")).any()


def read_table(path: Path, columns: Columns, *, texts: Iterable[str] = ()) -> pd.DataFrame:
    """Read a CSV table and check its size, its columns and every cell of them.

    Only an empty cell is a missing value, so that a case can be named NA.

    Args:
        path: the file.
        columns: required columns of the table.
        texts: further columns that are text if present.

    Returns:
        The table; all its columns are kept.

    Raises:
        DataError: the file is too large, cannot be read, lacks a column or a row, has a cell that
            does not fit its column, or repeats a row; the message names the file, the line and the
            column.
    """
    _check_size(path)
    names = (*columns.names, *columns.texts, *texts)
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(names, str),
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
            nrows=MOST_ROWS + 1,
        )
    except (OSError, ValueError, OverflowError, pd.errors.ParserError) as error:
        raise DataError(f"{path} is damaged or no table: {error}. {_AGAIN}") from error
    _check_shape(path, table, columns)
    found = [name for name in dict.fromkeys(names) if name in table.columns]
    table = table.assign(**{name: table[name].fillna("") for name in found})
    for name in table.columns:
        _check_column(path, table[name], name, columns)
    _check_key(path, table, columns.key)
    return table


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if size > MOST_BYTES:
        raise DataError(
            f"{path}: {size / 2**20:.0f} MB is too large; expected a table of at most "
            f"{MOST_BYTES / 2**20:.0f} MB. Split the run, or read the table with pandas"
        )


def _check_shape(path: Path, table: pd.DataFrame, columns: Columns) -> None:
    if len(table.columns) > MOST_COLUMNS or len(table) > MOST_ROWS:
        raise DataError(
            f"{path}: expected at most {MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns, got more "
            "than that. Split the run, or read the table with pandas"
        )
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path}: the rows have more cells than the header. {_AGAIN}")
    require_columns(table, columns.required, f"{path}:", advice=f". {_AGAIN}")
    if table.empty and not columns.can_be_empty:
        raise DataError(f"{path}: contains no row; expected at least one. {_AGAIN}")


def _check_column(path: Path, cells: pd.Series, name: str, columns: Columns) -> None:
    if name in (*columns.numbers, *columns.optional):
        _check_numbers(path, cells, name)
    elif name in columns.flags:
        is_flag = cells.astype(str).isin(["True", "False"]) | (cells.dtype == bool)
        _refuse(path, cells, name, ~is_flag, "True or False")
    elif is_numeric_dtype(cells.dtype):
        values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        too_large = np.abs(values) > LARGEST
        _refuse(path, cells, name, pd.Series(too_large), f"a number up to {LARGEST:g}")
    else:
        texts = cells.fillna("").astype(str)
        if name in columns.names:
            wrong = (texts == "") | (texts.str.len() > LONGEST_NAME)
            _refuse(path, cells, name, wrong, f"a name of 1 to {LONGEST_NAME} characters")
        _refuse(path, cells, name, texts.str.len() > LONGEST_TEXT, "a shorter text")
        controls = texts.str.contains(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
        _refuse(path, cells, name, controls, "text without control characters")


def _check_numbers(path: Path, cells: pd.Series, name: str) -> None:
    if cells.dtype == bool:
        values = np.full(len(cells), np.nan)
        wrong = np.ones(len(cells), dtype=bool)
    else:
        integers = cells.dtype == object  # any size; pandas converts their text, not the integers
        numbers = pd.to_numeric(cells.astype(str) if integers else cells, errors="coerce")
        values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        wrong = np.isnan(values) & cells.notna().to_numpy()
    wrong |= np.abs(values) > LARGEST
    _refuse(path, cells, name, pd.Series(wrong), "a finite number or an empty cell")


def _check_key(path: Path, table: pd.DataFrame, key: tuple[str, ...]) -> None:
    """Raise a DataError for the first row that has the key of an earlier one."""
    if not key:
        return
    repeated = np.flatnonzero(table.duplicated(list(key)).to_numpy())
    if len(repeated):
        line = repeated[0] + 2
        raise DataError(
            f"{path}, line {line}: repeats the {', '.join(key)} of an earlier line. {_AGAIN}"
        )


def _refuse(path: Path, cells: pd.Series, name: str, wrong: pd.Series, expected: str) -> None:
    """Raise a DataError for the first cell that is wrong."""
    places = np.flatnonzero(wrong.to_numpy(dtype=bool))
    if len(places):
        cell = str(cells.iloc[places[0]])
        shown = cell if len(cell) <= 40 else f"{cell[:40]}..."
        raise DataError(
            f"{path}, line {places[0] + 2}, column '{name}': expected {expected}, got {shown!r}. "
            f"{_AGAIN}"
        )
