"""Short forms of settings in Python: a name, a mapping, or the single value of a list."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        expanded = value
        if dataclasses.is_dataclass(field.default) and not isinstance(field.default, type):
            expanded = _nested(field.name, value, type(field.default))
        elif isinstance(value, str | Path) and "tuple" in str(field.type):
            expanded = (value,)
        if expanded is not value:
            object.__setattr__(settings, field.name, expanded)


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
    return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in value.items()})
