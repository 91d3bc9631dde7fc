"""Short forms of settings in Python: a name, a mapping, or the single value of a list."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest


def expand_short_forms(settings: Any) -> None:
    """Replace the short forms of the fields of frozen settings, in place.

    Nested settings may be given as a mapping of their fields, or as the text of their first field
    if that is a name; a list may be given as its single text or path.

    Args:
        settings: instance of a settings class, in its ``__post_init__``.

    Raises:
        ConfigError: a field of nested settings is unknown, or their value is of another kind.
    """
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
        nested = next(filter(dataclasses.is_dataclass, kinds), None)
        expanded = value
        if nested is not None and not (value is None and type(None) in kinds):
            expanded = _nested(name, value, nested)
        elif isinstance(value, str | Path) and any(get_origin(of) is tuple for of in kinds):
            expanded = (value,)
        if expanded is not value:
            object.__setattr__(settings, name, expanded)


def _nested(name: str, value: object, kind: Any) -> object:
    if isinstance(value, kind):
        return value
    known = [field.name for field in dataclasses.fields(kind)]
    if isinstance(value, str) and known[0] == "name":
        return kind(value)
    if not isinstance(value, Mapping):
        word = " or a name" if known[0] == "name" else ""
        raise ConfigError(
            f"{name}: expected {kind.__name__}, a mapping of its fields{word}, got "
            f"{type(value).__name__}"
        )
    for field in value:
        if field not in known:
            raise ConfigError(f"{name}: unknown field '{field}'; {nearest(field, known)}")
    return kind(**{name: _tuples(part) for name, part in value.items()})


def _tuples(value: Any) -> Any:
    """Return nested lists as tuples, and any other value unchanged."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
