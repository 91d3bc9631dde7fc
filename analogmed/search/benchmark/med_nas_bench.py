"""Files of MED-NAS-Bench: their architectures, but not their metrics, which are random."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from analogmed.foundation.errors import ConfigError, DataError, ShapeError
from analogmed.models import build_model
from analogmed.models.med_nas_architecture import Architecture, Compat

MODEL = "med_nas_bench"
"""Name of these networks in the registry of models."""


@dataclass(frozen=True)
class Entry:
    """An architecture of MED-NAS-Bench.

    Attributes:
        id: number in the file.
        config: the ``arch_config`` of the file.
        architecture: the parsed ``arch_config``.
        params_reported: number of parameters in the file, including two convolutions that never
            run.
        path: path of the file.
    """

    id: int
    config: Mapping[str, Any]
    architecture: Architecture
    params_reported: int
    path: Path

    @property
    def params_live(self) -> int:
        """Number of weights and biases of the layers that run."""
        return self.architecture.parameters

    def options(self, compat: Compat = "same") -> dict[str, Any]:
        """Return options of the model ``med_nas_bench`` for training, evaluation and costs."""
        return {"config": dict(self.config), "compat": compat}

    def build(
        self, in_channels: int | None = None, out_channels: int | None = None, **options: Any
    ) -> nn.Module:
        """Return the untrained network.

        Args:
            in_channels: number of image channels; by default the file's.
            out_channels: number of logits per position; by default the file's.
            **options: options of :class:`analogmed.models.med_nas_bench.MedNasBench`, such as
            ``compat``.
        """
        own = self.architecture
        return build_model(
            MODEL,
            in_channels=in_channels or own.convolutions[0].in_channels,
            out_channels=out_channels or own.out_channels,
            config=self.config,
            **options,
        )


def read_entry(path: Path | str) -> Entry:
    """Read a file of MED-NAS-Bench.

    The metrics in it are not read, because the code that wrote them drew them at random.

    Raises:
        DataError: the file is missing or damaged, or its architecture is not supported.
    """
    path = Path(path)
    content = _read_json(path)
    try:
        number, reported = (_count(path, content, name) for name in ("id", "params"))
        config = content["arch_config"]
        return Entry(number, config, Architecture.of(config), reported, path)
    except KeyError as error:
        raise DataError(f"{path}: {error} is missing; expected a file of MED-NAS-Bench") from error
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def read_folder(folder: Path | str) -> list[Entry]:
    """Read all ``sample*.json`` of a folder, ordered by id.

    Raises:
        DataError: there are none, one is damaged, or two have the same id.
    """
    folder = Path(folder)
    entries = [read_entry(path) for path in sorted(folder.glob("sample*.json"))]
    if not entries:
        raise DataError(f"{folder}: no sample*.json; give the folder models/configs of its clone")
    by_id: dict[int, Entry] = {}
    for entry in entries:
        if (other := by_id.setdefault(entry.id, entry)) is not entry:
            raise DataError(f"{entry.path}: id {entry.id} is that of {other.path} too")
    return [by_id[number] for number in sorted(by_id)]


def architecture_table(entries: list[Entry]) -> pd.DataFrame:
    """Return a table of the architectures, one row each.

    Returns:
        ``id``; ``filters``; ``kernel``, ``dilation``, ``activation`` and ``order`` of the six
        convolutions in the order in which they are computed, separated by dashes, or one value if
        all are the same; ``norm`` of the outer and the inner block; ``pooled``; ``params_reported``
        of the file, ``params_live`` of the layers that run; ``faithful_size``: size of the logits
        of 64 x 64 pixels with ``compat="faithful"``, missing where that does not run.
    """
    return pd.DataFrame([_row(entry) for entry in entries])


def _row(entry: Entry) -> dict[str, Any]:
    architecture = entry.architecture

    def each(name: str) -> str:
        values = [str(getattr(layer, name)) for layer in architecture.convolutions]
        return values[0] if len(set(values)) == 1 else "-".join(values)

    return {
        "id": entry.id,
        "filters": architecture.filters,
        **{name: each(name) for name in ("kernel", "dilation", "activation", "order")},
        "norm": "-".join(
            "yes" if part[0].norm else "no" for part in (architecture.down, architecture.inner)
        ),
        "pooled": architecture.pooled,
        "params_reported": entry.params_reported,
        "params_live": entry.params_live,
        "faithful_size": _faithful_size(architecture),
    }


def _faithful_size(architecture: Architecture, size: int = 64) -> int | None:
    try:
        return architecture.output_size(size, "faithful")
    except ShapeError:
        return None


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}; download it again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object, found {type(content).__name__}")
    return content


def _count(path: Path, content: Mapping[str, Any], name: str) -> int:
    if type(value := content[name]) is not int or value < 0:
        raise DataError(f"{path}: {name}: expected a whole number, found {value!r}")
    return value
