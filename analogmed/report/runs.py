"""Contents of run folders of any program: settings, environment, tables and example cases."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import require_folder
from analogmed.foundation.strict_yaml import parse_json, read_text, read_yaml
from analogmed.report.examples import ExampleCase, read_example_cases
from analogmed.tables import mitigation, robustness, sensitivity, training, uncertainty
from analogmed.tables.table import Table, names_of_columns

TABLES: dict[str, tuple[Table, ...]] = {
    "evaluation": (
        robustness.SUMMARY,
        robustness.CURVES,
        robustness.COMPARISON,
        robustness.TIME_TO_FAILURE,
    ),
    "uncertainty": (
        uncertainty.SUMMARY,
        uncertainty.COMPARISON,
        uncertainty.DENSITY,
        uncertainty.RELIABILITY,
        uncertainty.RISK_COVERAGE,
        uncertainty.CONFORMAL_SUMMARY,
    ),
    "mitigation": (mitigation.SUMMARY,),
    "placement": (sensitivity.PLACEMENTS, sensitivity.RANKING),
    "sensitivity": (sensitivity.RANKING,),
    "training": (training.LOG,),
}
"""Tables from which the page of a run is built, by kind of run; a folder has some of them."""
KINDS = {
    "evaluation": ("summary", "noise_drop"),
    "uncertainty": ("summary", "region"),
    "mitigation": ("summary", "option"),
    "placement": ("placements", "drop"),
    "sensitivity": ("ranking", "effect"),
    "training": ("log", "loss"),
}
"""Table and column that identify each kind of run."""
PROGRAMS = {
    "evaluation": "analogmed.eval",
    "uncertainty": "analogmed.uncertainty",
    "mitigation": "analogmed.uncertainty mitigation",
    "placement": "analogmed.sensitivity placement",
    "sensitivity": "analogmed.sensitivity",
    "training": "analogmed.train",
}
MOST_NETWORKS = 100
MOST_JSON = 4 * 2**20
_SETTINGS = ("experiment.yaml", "training.yaml")
_SETTINGS_TYPES: dict[str, type] = {"task": dict, "hardware": dict, "sweep": dict}
_ENVIRONMENT_TYPES: dict[str, type] = {"versions": dict, "git": dict, "command": list, "time": str}
"""Entries that a page formats separately; all others are shown as text."""
_TYPE_NAMES: dict[type, str] = {dict: "a mapping", list: "a list", str: "text"}
_AGAIN = "Run the program that wrote it again"
_TEXTS = (
    "task", "model", "training", "hardware", "other_model", "other_training", "case", "patient",
    "note", "subject", "layer", "source", "class",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Contents of a run folder.

    Attributes:
        name: name of the folder.
        kind: one of ``KINDS``.
        settings: configuration of the run; empty if there is none.
        settings_file: name of the configuration file.
        environment: versions, machine, command and state of the code.
        tables: tables by the names in ``TABLES``.
        examples: example cases.
    """

    name: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    settings_file: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    examples: tuple[ExampleCase, ...] = ()

    @property
    def program(self) -> str:
        """Program that created the run, as called after ``python -m``."""
        return PROGRAMS[self.kind]


def read_run(folder: Path | str) -> Run:
    """Return the contents of a run folder of any program.

    Raises:
        DataError: the folder does not exist, is not a run folder, or contains a damaged file.
    """
    folder = require_folder(folder)
    kind = _kind(folder)
    tables = {
        table.name: table.read(folder, texts=_TEXTS)
        for table in TABLES[kind]
        if (folder / f"{table.name}.csv").is_file()
    }
    _check_networks(folder, tables)
    settings = next((name for name in _SETTINGS if (folder / name).is_file()), "")
    return Run(
        name=folder.resolve().name,
        kind=kind,
        settings=_read_settings(folder / settings) if settings else {},
        settings_file=settings,
        environment=_read_environment(folder / "environment.json"),
        tables=tables,
        examples=read_example_cases(folder),
    )


def _kind(folder: Path) -> str:
    """Return the kind of a run, determined from the columns of its tables."""
    for kind, (name, column) in KINDS.items():
        path = folder / f"{name}.csv"
        if path.is_file() and column in names_of_columns(path):
            return kind
    wanted = ", ".join(sorted({f"{name}.csv with '{column}'" for name, column in KINDS.values()}))
    raise DataError(f"{folder} is no run folder: expected one of {wanted}; {_ADVICE}")


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
    "give a folder that python -m analogmed.eval, uncertainty, sensitivity or train has written; "
    "of a search, give its folder best"
)
