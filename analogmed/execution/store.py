"""Finished units of a study: Parquet files in a folder or at any fsspec URL."""

import io
import json
import re
import uuid
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from analogmed.execution.unit import canonical, key_of
from analogmed.foundation.credentials import is_masked, masked
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import NewFiles, ensure_writable, write_atomically
from analogmed.tables.results import COLUMNS

UNITS = "units"
QUARANTINE = "quarantine"

_NAME = re.compile(r"([0-9a-f]{32})\.parquet")
_DESCRIPTION = b"analogmed.unit"
_BATCH = b"analogmed.batch_size"
_SCHEMA = b"analogmed.columns"
_PARTS = b"analogmed.parts"
_WRITES_WHOLE = {"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"}
"""Protocols of stores with atomic writes of an object."""


@dataclass(frozen=True)
class UnitResult:
    """Result of a unit.

    Attributes:
        table: main table.
        parts: further tables by name; a name consists of lower-case letters.
        batch_size: batch size of the computation, if it differs from that of the description.
    """

    table: pd.DataFrame
    parts: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    batch_size: int | None = None


class Store:
    """Store of finished units: a folder with the files of each unit, named by its key.

    ``KEY.parquet`` is the main table of a unit. It is written last, so that the unit is finished if
    it exists. ``KEY-NAME.parquet`` are further tables.

    Files are written atomically: in file systems a temporary file is renamed, in object stores the
    object is uploaded in one piece. Several workers write the same bytes under one key.

    Args:
        url: folder, or fsspec URL such as ``s3://bucket/sweep``.

    Raises:
        ConfigError: the protocol of the URL is unknown, or its package is not installed.
    """

    def __init__(self, url: Path | str) -> None:
        self.url = str(url)
        if is_masked(self.url):
            raise ConfigError(
                f"--store {self.url}: the credentials of this URL are masked, as settings of a run "
                "folder are; expected a URL with credentials. Give --store again."
            )
        try:
            self._files, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise ConfigError(masked(f"store {self.url}: {error}")) from error
        self._root = root.rstrip("/")

    def __str__(self) -> str:
        """Return the URL for messages, with masked credentials."""
        return masked(self.url)

    @property
    def in_memory(self) -> bool:
        """Whether the store is in memory, inaccessible to other processes."""
        return "memory" in self._protocols

    def ensure_writable(self) -> None:
        """Check that a result can be written, before it is computed; nothing is left.

        Raises:
            ConfigError: the store cannot be written; the message reports the reason.
        """
        if isinstance(self._files, LocalFileSystem):
            units = f"{self._root}/{UNITS}"
            new = NewFiles(units)
            ensure_writable(units)
            new.remove()
            return
        probe = f"{self._root}/{UNITS}/.writable-{uuid.uuid4().hex}"
        self._put(probe, b"\0" * 4096)
        self._files.rm_file(probe)

    def keys(self) -> set[str]:
        """Return the keys of all finished units."""
        self._files.invalidate_cache()
        try:
            paths = self._files.ls(f"{self._root}/{UNITS}", detail=False)
        except FileNotFoundError:
            return set()
        names = (_NAME.fullmatch(path.rpartition("/")[2]) for path in paths)
        return {name[1] for name in names if name}

    def write(self, description: Mapping[str, Any], result: UnitResult) -> str:
        """Store the result of a unit.

        Args:
            description: description of the unit, written into each file.
            result: tables of the unit.

        Returns:
            Key of the unit.

        Raises:
            ConfigError: the store cannot be written.
        """
        key = key_of(description)
        about = {_DESCRIPTION: canonical(description).encode()}
        for name, part in result.parts.items():
            self._put(self._path(f"{key}-{name}"), _to_parquet(part, about))
        if result.batch_size is not None:
            about[_BATCH] = str(result.batch_size).encode()
        if result.parts:
            about[_PARTS] = json.dumps(list(result.parts)).encode()
        self._put(self._path(key), _to_parquet(result.table, about))
        return key

    def written_at(self, key: str) -> datetime | None:
        """Return the time at which a unit was written, or ``None`` if it is not recorded."""
        try:
            time = self._files.modified(self._path(key))
        except (NotImplementedError, FileNotFoundError):
            return None
        return time if time.tzinfo else time.replace(tzinfo=UTC)

    def remove(self, key: str) -> None:
        """Remove a finished unit, if it exists.

        Raises:
            ConfigError: the store cannot be written.
        """
        try:
            self._files.rm_file(self._path(key))
        except FileNotFoundError:
            return
        except Exception as error:  # each kind of store has its own
            raise ConfigError(self._cannot_write(error)) from error

    def read(self, key: str) -> UnitResult | None:
        """Return the result of a finished unit.

        Returns:
            The result; ``None`` if a file is missing or damaged. A damaged file is moved to
            ``quarantine`` with a warning, and the unit counts as not finished.
        """
        main = self._read(key, key)
        if main is None:
            return None
        table, about = main
        parts = {}
        for name in json.loads(about.get(_PARTS, b"[]")):
            part = self._read(f"{key}-{name}", key)
            if part is None:
                return None
            parts[name] = part[0]
        batch_size = int(about[_BATCH]) if _BATCH in about else None
        return UnitResult(table, parts, batch_size)

    def _read(self, name: str, key: str) -> tuple[pd.DataFrame, dict[bytes, bytes]] | None:
        path = self._path(name)
        try:
            content = self._files.cat_file(path)
        except FileNotFoundError:
            return None
        try:
            return _from_parquet(content, key)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            aside = f"{self._root}/{QUARANTINE}/{name}-{uuid.uuid4().hex[:8]}.parquet"
            self._make_folder_of(aside)
            with suppress(FileNotFoundError):  # another run has moved it
                self._files.mv(path, aside)
            warnings.warn(
                f"{path} is damaged ({error}); it is now {aside}, and its unit is computed again",
                stacklevel=3,
            )
            return None

    @property
    def _protocols(self) -> set[str]:
        protocol = self._files.protocol
        return {protocol} if isinstance(protocol, str) else set(protocol)

    def _cannot_write(self, error: Exception) -> str:
        return masked(f"cannot write to the store {self.url}: {error}")

    def _path(self, name: str) -> str:
        return f"{self._root}/{UNITS}/{name}.parquet"

    def _put(self, path: str, content: bytes) -> None:
        try:
            if isinstance(self._files, LocalFileSystem):
                write_atomically(path, lambda temporary: temporary.write_bytes(content))
                return
            if self._protocols & _WRITES_WHOLE:
                self._files.pipe_file(path, content)
                return
            self._make_folder_of(path)
            aside = f"{path}-{uuid.uuid4().hex}"
            self._files.pipe_file(aside, content)
            self._files.mv(aside, path)
        except Exception as error:  # each kind of store has its own
            raise ConfigError(self._cannot_write(error)) from error

    def _make_folder_of(self, path: str) -> None:
        if not self._protocols & _WRITES_WHOLE:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)


def _to_parquet(table: pd.DataFrame, about: Mapping[bytes, bytes]) -> bytes:
    """Return a table as Parquet file; types other than those of the results table are listed."""
    rows = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(rows.schema.metadata or {}), **about}
    types = {str(name): str(of_column) for name, of_column in table.dtypes.items()}
    if list(types.items()) != list(COLUMNS.items()):
        metadata[_SCHEMA] = json.dumps(types).encode()
    buffer = io.BytesIO()
    pq.write_table(
        rows.replace_schema_metadata(metadata),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    return buffer.getvalue()


def _from_parquet(content: bytes, key: str) -> tuple[pd.DataFrame, dict[bytes, bytes]]:
    """Return the table of a file and its metadata.

    Raises:
        ValueError, pa.ArrowException: the file is incomplete, or does not belong to the key.
    """
    file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
    metadata = file.schema_arrow.metadata or {}
    if key_of(json.loads(metadata[_DESCRIPTION])) != key:
        raise ValueError("its description is not that of its name")
    types = json.loads(metadata[_SCHEMA]) if _SCHEMA in metadata else COLUMNS
    table = file.read().to_pandas()
    if list(table) != list(types):
        raise ValueError(f"its columns are {', '.join(map(str, table))}")
    return table.astype(types), metadata
