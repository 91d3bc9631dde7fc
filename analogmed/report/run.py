"""Contents of a run folder of any program."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analogmed.metrics.registry import PRIMARY
from analogmed.report.examples import ExampleCase
from analogmed.report.names import is_synthetic


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

    @property
    def primary_metric(self) -> str:
        """Name of the first metric of the settings; that of segmentation if they name none."""
        listed = self.settings.get("metrics")
        return str(listed[0]) if isinstance(listed, list) and listed else PRIMARY

    @property
    def is_synthetic(self) -> bool:
        """Whether the images are synthetic, as far as the run folder says."""
        tasks = {str((self.settings.get("task") or {}).get("name"))}
        for table in self.tables.values():
            tasks |= set(table["task"].astype(str)) if "task" in table else set()
        return any(map(is_synthetic, tasks)) or any(
            is_synthetic(example.task, example.case) for example in self.examples
        )
