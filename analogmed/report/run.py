"""Contents of a run folder of any program."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analogmed.report.examples import ExampleCase


@dataclass(frozen=True)
class Run:
    """Contents of a run folder.

    Attributes:
        name: name of the folder.
        kind: name of its kind.
        settings: configuration of the run; empty if there is none.
        settings_file: name of the configuration file.
        environment: versions, machine, command and state of the code.
        tables: tables by name.
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
    def data_name(self) -> str:
        """Name of the data set, or the name that own data have; empty if unknown."""
        task = self.settings.get("task") or {}
        options = task.get("options")
        own = options.get("name") if isinstance(options, dict) else None
        return str(own or task.get("name") or "")
