"""What lies in run folders: settings, environment, tables and example cases, of any program."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.errors import ConfigError, DataError
from analogmed.folders import require_folder
from analogmed.report.example_cases import ExampleCase, read_example_cases
from analogmed.strict_yaml import read_yaml

TABLES = (
    "summary",
    "curves",
    "comparison",
    "time_to_failure",
    "density",
    "reliability",
    "risk_coverage",
    "conformal_summary",
    "ranking",
    "placements",
    "log",
)
"""CSV files that a page is made of; a run folder has some of them."""
KINDS = {
    "evaluation": ("summary", "dice_1d"),
    "uncertainty": ("summary", "region"),
    "mitigation": ("summary", "option"),
    "placement": ("placements", "drop"),
    "sensitivity": ("ranking", "effect"),
    "training": ("log", "loss"),
}
"""What a run is, by the table that it has written and a column of this."""
PROGRAMS = {
    "evaluation": "analogmed.eval",
    "uncertainty": "analogmed.uncertainty",
    "mitigation": "analogmed.uncertainty mitigation",
    "placement": "analogmed.sensitivity placement",
    "sensitivity": "analogmed.sensitivity",
    "training": "analogmed.train",
}
_SETTINGS = ("experiment.yaml", "training.yaml")
_TEXTS = (
    "task", "model", "training", "hardware", "other_model", "other_training", "case", "patient",
    "note", "subject", "layer", "source", "class",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        name: of the folder.
        kind: one of ``KINDS``.
        settings: its configuration; empty if there is none.
        settings_file: name of the file that this stands in.
        environment: versions, machine, command and state of the code.
        tables: by the names of ``TABLES``.
        examples: cases to look at.
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
        """What has made it, as it is called after ``python -m``."""
        return PROGRAMS[self.kind]


def read_run(folder: Path | str) -> Run:
    """Read the run folder of an evaluation or of another program.

    Raises:
        DataError: the folder is not there, is no run folder, or holds a damaged file.
    """
    folder = require_folder(folder)
    files = {name: folder / f"{name}.csv" for name in TABLES}
    tables = {name: _read_table(path) for name, path in files.items() if path.is_file()}
    kinds = [
        kind for kind, (name, column) in KINDS.items() if column in tables.get(name, pd.DataFrame())
    ]
    if not kinds:
        wanted = ", ".join(sorted({f"{name}.csv" for name, _ in KINDS.values()}))
        raise DataError(f"{folder} is no run folder: expected one of {wanted} in it; {_ADVICE}")
    settings = next((name for name in _SETTINGS if (folder / name).is_file()), "")
    return Run(
        name=folder.resolve().name,
        kind=kinds[0],
        settings=_read_settings(folder / settings) if settings else {},
        settings_file=settings,
        environment=_read_environment(folder / "environment.json"),
        tables=tables,
        examples=read_example_cases(folder),
    )


def _read_table(path: Path) -> pd.DataFrame:
    """A CSV file; only an empty cell is a missing value, so that a case may be called NA."""
    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False, na_values=[""]
        )
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged or no table: {error}; run the program again to write it anew"
        ) from error
    texts = [name for name in _TEXTS if name in table.columns]
    return table.assign(**{name: table[name].fillna("") for name in texts})


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except ConfigError as error:
        raise DataError(f"the settings of a run cannot be read: {error}") from error


def _read_environment(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}; run the program again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold an object, not {type(content).__name__}")
    return content


_ADVICE = (
    "give a folder that python -m analogmed.eval, uncertainty, sensitivity or train has written"
)
