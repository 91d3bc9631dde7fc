"""Settings as plain values, and as YAML."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from analogmed.foundation.credentials import masked_values
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.strict_yaml import check_keys, dump_yaml
from analogmed.foundation.text import known_name, nearest
from analogmed.foundation.time_constants import to_seconds

S = TypeVar("S")


def to_yaml(config: Any) -> str:
    """Return a configuration as YAML, fields in order, credentials in URLs masked."""
    return dump_yaml(masked_values(to_plain(config)))


def to_plain(config: Any) -> Any:
    """Return a configuration as dictionaries, lists, strings and numbers."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def from_plain(settings_class: type[S], plain: Mapping[str, Any], where: str) -> S:
    """Build settings from plain values, the inverse of :func:`to_plain`; defaults fill the gaps.

    Args:
        settings_class: a dataclass whose fields are numbers, texts, paths, choices, tuples,
            mappings or nested settings.
        plain: values by name.
        where: prefix of messages, such as the path of a file.

    Raises:
        ConfigError: a name is unknown or a value has another type; the message names both.
    """
    kinds = get_type_hints(settings_class)
    plain = {name: _in_full(name, value, kinds.get(name)) for name, value in plain.items()}
    check_keys(plain, settings_class, where)
    return settings_class(
        **{name: _of_kind(kinds[name], value, f"{where}: {name}") for name, value in plain.items()}
    )


_NAMES = ("name", "preset")
"""First fields whose value stands for nested settings."""


def _in_full(name: str, value: Any, kind: Any) -> Any:
    """Return a name as nested settings, and times such as ``1 day`` in s; others unchanged."""
    if isinstance(value, str) and dataclasses.is_dataclass(kind):
        first = dataclasses.fields(kind)[0].name
        return {first: value} if first in _NAMES else value
    if name.endswith("_s") and isinstance(value, list | tuple):
        return [to_seconds(time) if isinstance(time, str) else time for time in value]
    return value


def _of_kind(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _of_one_kind(members, value, where)
    if origin is Literal:
        value = known_name(value, members)
        if value not in members:
            raise ConfigError(f"{where}: unknown value {value!r}; {nearest(str(value), members)}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        each = members[:1] * len(value) if members[-1:] == (Ellipsis,) else members
        if len(each) == len(value):
            return tuple(_of_kind(k, v, where) for k, v in zip(each, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        keys, values = members
        return {_of_kind(keys, k, where): _of_kind(values, v, where) for k, v in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return from_plain(kind, value, where)  # type: ignore[arg-type]
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    mistaken = isinstance(value, bool) and kind is not bool
    if isinstance(kind, type) and isinstance(value, kind) and not mistaken:
        return value
    raise ConfigError(f"{where}: expected {_name(kind)}, got {value!r}")


def _of_one_kind(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        try:
            return _of_kind(kind, value, where)
        except ConfigError:
            continue
    raise ConfigError(f"{where}: expected {' or '.join(map(_name, kinds))}, got {value!r}")


def _name(kind: Any) -> str:
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind))
