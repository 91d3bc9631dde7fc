"""Reader of run folders of any program: settings, environment, tables and example cases."""

from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import require_folder
from analogmed.foundation.strict_yaml import parse_json, read_text, read_yaml
from analogmed.report.examples import read_example_cases
from analogmed.report.kinds.kind import Kind
from analogmed.report.kinds.registry import NAMES, kind_of
from analogmed.report.run import Run
from analogmed.tables.table import names_of_columns

MOST_NETWORKS = 100
MOST_JSON = 4 * 2**20
_MOST_SHOWN = 5
_SETTINGS = ("experiment.yaml", "training.yaml", "search.yaml", "hardware.yaml")
_SETTINGS_TYPES: dict[str, type] = {"task": dict, "hardware": dict, "sweep": dict}
_ENVIRONMENT_TYPES: dict[str, type] = {"versions": dict, "git": dict, "command": list, "time": str}
"""Entries that a page formats separately; all others are shown as text."""
_TYPE_NAMES: dict[type, str] = {dict: "a mapping", list: "a list", str: "text"}
_AGAIN = "Run the program that wrote it again"
_TEXTS = (
    "task", "model", "training", "hardware", "other_model", "other_training", "case", "patient",
    "note", "subject", "layer", "source", "class",
)  # fmt: skip


def read_run(folder: Path | str) -> Run:
    """Return the contents of a run folder of any program.

    Raises:
        DataError: the folder does not exist, is not a run folder, or contains a damaged file.
    """
    folder = require_folder(folder)
    kind = _kind(folder)
    tables = {
        table.name: table.read(folder, texts=_TEXTS)
        for table in kind.tables
        if (folder / f"{table.name}.csv").is_file()
    }
    _check_networks(folder, tables)
    settings = next((name for name in _SETTINGS if (folder / name).is_file()), "")
    return Run(
        name=folder.resolve().name,
        kind=kind.name,
        settings=_read_settings(folder / settings) if settings else {},
        settings_file=settings,
        environment=_read_environment(folder / "environment.json"),
        tables=tables,
        examples=read_example_cases(folder),
    )


def _kind(folder: Path) -> Kind:
    """Return the kind of a run, determined from the columns of its tables."""
    found = _known_kind(folder)
    if found is not None:
        return found
    inside = [child.name for child in sorted(folder.iterdir()) if child.is_dir()]
    runs = [name for name in inside if _known_kind(folder / name) is not None]
    if runs:
        raise DataError(
            f"{folder} is no run folder, but contains {', '.join(runs[:_MOST_SHOWN])}: expected "
            "one or more of them"
        )
    kinds = map(kind_of, NAMES)
    wanted = {f"{kind.known_table.name}.csv with '{kind.known_column}'" for kind in kinds}
    raise DataError(
        f"{folder} is no run folder: expected one of {', '.join(sorted(wanted))}; {_ADVICE}"
    )


def _known_kind(folder: Path) -> Kind | None:
    for kind in map(kind_of, NAMES):
        path = folder / f"{kind.known_table.name}.csv"
        if path.is_file() and kind.known_column in names_of_columns(path):
            return kind
    return None


def _check_networks(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        if not {"model", "training"} <= set(table.columns):
            continue
        networks = len(table[["model", "training"]].drop_duplicates())
        if networks > MOST_NETWORKS:
            raise DataError(
                f"{folder}/{name}.csv: {networks:,} networks are too many for a page; expected at "
                f"most {MOST_NETWORKS}. Evaluate fewer networks in a run, or read the table itself"
            )


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = read_yaml(path)
    except ConfigError as error:
        raise DataError(f"the settings of a run cannot be read: {error}") from error
    return _checked(path, settings, _SETTINGS_TYPES)


def _read_environment(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    text = read_text(path, MOST_JSON, error=DataError)
    content = parse_json(text, str(path), error=DataError)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(content).__name__}. {_AGAIN}")
    return _checked(path, content, _ENVIRONMENT_TYPES)


def _checked(path: Path, content: dict[str, Any], types: dict[str, type]) -> dict[str, Any]:
    """Return the content of a file; raise DataError if an entry has another type."""
    for name, expected in types.items():
        value = content.get(name)
        if value is not None and not isinstance(value, expected):
            raise DataError(
                f"{path}, entry '{name}': expected {_TYPE_NAMES[expected]}, got "
                f"{type(value).__name__}. {_AGAIN}"
            )
    return content


_ADVICE = (
    "give a folder that eval, train, uncertainty, sensitivity, search or hardware of analogmed has "
    "written"
)
