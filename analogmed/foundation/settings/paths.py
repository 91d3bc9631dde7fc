"""Relative paths in files of settings, which are relative to the folder of the file.

Paths on the command line, and the outputs ``out`` and ``store``, are relative to the working
directory.
"""

import dataclasses
import os
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from analogmed.foundation.credentials import masked_values
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.settings.plain import from_plain, to_plain
from analogmed.foundation.strict_yaml import dump_yaml, read_yaml

S = TypeVar("S")

_OUTPUTS = ("out", "store")
_NAMES_OR_FILES = ("digital_layers", "profile")
"""Settings of text that are the path of a YAML file if they end like one."""
_YAML = (".yaml", ".yml")
BUNDLE = "bundle:"
"""Prefix of the name of a network that is a folder with a MONAI bundle."""
_PACKAGE = Path(__file__).parents[2]


def read_settings(settings_class: type[S], path: Path | str, **changes: Any) -> S:
    """Read settings from a file.

    Args:
        settings_class: a dataclass.
        path: YAML or JSON file.
        changes: fields that override the values of the file.

    Raises:
        ConfigError: the file cannot be read, or as in
            :func:`analogmed.foundation.settings.plain.from_plain`.
    """
    plain = read_plain_settings(path, settings_class)
    return from_plain(settings_class, plain | changes, str(path))


def read_plain_settings(path: Path | str, settings_class: type) -> dict[str, Any]:
    """Read a settings file as plain values, with paths relative to the working directory.

    Args:
        path: YAML or JSON file. ``configs/NAME.yaml`` is a file of the package where the working
            directory has no such file.
        settings_class: dataclass of the settings, whose types define which values are paths.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = _own_or_shipped(Path(path))
    content, folder = read_yaml(path), path.parent.absolute()
    is_pipe = folder.parts[:2] in (("/", "dev"), ("/", "proc"))
    return content if is_pipe else with_paths_from(folder, content, settings_class)


def _own_or_shipped(path: Path) -> Path:
    shipped = _PACKAGE / path
    is_named = path.parent == Path("configs") and not path.exists()
    return shipped if is_named and shipped.is_file() else path


def with_paths_from(
    folder: Path, content: Mapping[str, Any], settings_class: type
) -> dict[str, Any]:
    """Return plain settings whose paths are relative to the working directory, or absolute.

    Args:
        folder: folder that the paths of the content are relative to.
        content: plain settings by name.
        settings_class: dataclass of the settings.
    """
    folder, here = folder.resolve(), Path.cwd()

    def moved(text: str) -> str:
        if Path(text).is_absolute():
            return text
        path = Path(os.path.normpath(folder / text))
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    return {
        name: _moved(value, kind, name, moved)
        for name, value, kind in _fields(content, settings_class)
    }


def write_settings(path: Path, settings: Any) -> None:
    """Write the resolved settings of a run, from which ``--config`` repeats it from any folder.

    Relative paths become relative to the file, absolute ones stay so. Credentials in URLs are
    masked.
    """
    folder = path.parent.resolve()
    plain = {
        name: _moved(value, kind, name, lambda text: _seen_from(folder, text))
        for name, value, kind in _fields(to_plain(settings), type(settings))
    }
    write_text_atomically(path, dump_yaml(masked_values(plain)))


def _seen_from(folder: Path, text: str) -> str:
    if Path(text).is_absolute():
        return text
    try:
        return os.path.relpath(Path.cwd() / text, folder)
    except ValueError:  # another drive
        return str(Path.cwd() / text)


def _fields(content: Mapping[str, Any], settings_class: type) -> list[tuple[str, Any, Any]]:
    """Return name, value and type of each entry; the type of an unknown one is ``None``."""
    kinds = {field.name: field.type for field in dataclasses.fields(settings_class)}
    return [(name, value, kinds.get(name)) for name, value in content.items()]


def _moved(value: Any, kind: Any, name: str, move: Callable[[str], str]) -> Any:
    """Return a plain value with all paths in it moved."""
    if name in _OUTPUTS or value is None:
        return value
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    for one in kinds:
        inner = get_args(one)
        if dataclasses.is_dataclass(one) and isinstance(value, Mapping):
            entries = _fields(value, one)  # type: ignore[arg-type]
            return {key: _moved(part, of_key, key, move) for key, part, of_key in entries}
        if dataclasses.is_dataclass(one) and isinstance(value, str):  # short form: the first field
            first = dataclasses.fields(one)[0]
            return _moved(value, first.type, first.name, move)
        if get_origin(one) is tuple and isinstance(value, list):
            return [_moved(part, inner[0], name, move) for part in value]
        if get_origin(one) is dict and isinstance(value, Mapping):
            return {key: _moved(part, inner[1], name, move) for key, part in value.items()}
        if isinstance(value, str) and one is Path:
            return move(value)
        if isinstance(value, str) and one is str:
            return _moved_text(value, name, move)
    return value


def _moved_text(value: str, name: str, move: Callable[[str], str]) -> str:
    if value.startswith(BUNDLE):
        return BUNDLE + move(value.removeprefix(BUNDLE))
    if name in _NAMES_OR_FILES and value.endswith(_YAML):
        return move(value)
    return value
