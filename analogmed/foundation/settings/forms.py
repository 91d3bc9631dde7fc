"""Short forms of settings in Python: a name, a mapping, one value of a list, flat keywords."""

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest


def expand_short_forms(settings: Any) -> None:
    """Replace the short forms of the fields of frozen settings, in place.

    Nested settings may be given as a mapping of their fields, or as the text of their first field
    if that is a name; a list may be given as its single text or path, and a path as its text.

    Args:
        settings: instance of a settings class, in its ``__post_init__``.

    Raises:
        ConfigError: a field of nested settings is unknown, or their value is of another kind.
    """
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kinds = _alternatives(kind)
        nested = next(filter(dataclasses.is_dataclass, kinds), None)
        expanded = value
        if nested is not None and not (value is None and type(None) in kinds):
            expanded = _nested(name, value, nested)
        elif isinstance(value, str | Path) and any(get_origin(of) is tuple for of in kinds):
            expanded = (value,)
        elif isinstance(value, str) and Path in kinds and str not in kinds:
            expanded = Path(value)
        if expanded is not value:
            object.__setattr__(settings, name, expanded)


_S = TypeVar("_S")
_S_contra = TypeVar("_S_contra", contravariant=True)
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)


class TakesKeywords(Protocol[_S_contra, _R_co]):
    """Function of settings, or of their fields as keywords."""

    def __call__(self, config: _S_contra | None = None, /, **settings: Any) -> _R_co:
        """Run with the settings, or with the settings of these keywords."""


def takes_keywords(program: Callable[[_S], _R]) -> TakesKeywords[_S, _R]:
    """Let a function of settings also accept their fields as flat keywords.

    The class of the settings is the annotation of the first parameter. A keyword is one of its
    fields, or a field of exactly one of its nested settings: ``chips=5`` for
    ``sweep={"chips": 5}``.
    """
    kind: Any = next(iter(program.__annotations__.values()))

    @functools.wraps(program)
    def call(config: _S | None = None, /, **settings: Any) -> _R:
        if config is not None and settings:
            raise ConfigError(
                f"{program.__name__}: expected {kind.__name__}(...) or keywords, got both "
                f"({', '.join(settings)}). Write these into {kind.__name__}(...)."
            )
        return program(settings_of(kind, settings) if config is None else config)

    return call


def settings_of(kind: Any, given: Mapping[str, Any]) -> Any:
    """Return settings from flat keywords.

    Args:
        kind: settings class.
        given: values by field, or by field of exactly one of the nested settings.

    Raises:
        ConfigError: a keyword is unknown, several nested settings have it, or one of them is given
            as a whole, too.
    """
    own = [field.name for field in dataclasses.fields(kind)]
    homes: dict[str, list[str]] = {}
    for group, field in _nested_fields(kind):
        homes.setdefault(field, []).append(group)
    fields = {name: value for name, value in given.items() if name in own}
    for name in [name for name in given if name not in fields]:
        group = _only_home(name, homes.get(name, []), [*own, *homes])
        fields[group] = _fields_of(group, fields.get(group, {}), kind, name) | {name: given[name]}
    return kind(**fields)


def _only_home(name: str, groups: list[str], known: list[str]) -> str:
    if not groups:
        raise ConfigError(f"unknown setting {name!r}; {nearest(name, known)}")
    if len(groups) > 1:
        raise ConfigError(
            f"{name}: expected a setting of one group, got one of {' and '.join(groups)}. Give it "
            f"as {groups[0]}={{{name!r}: ...}}."
        )
    return groups[0]


def _fields_of(group: str, value: object, kind: Any, name: str) -> dict[str, Any]:
    """Return the given fields of nested settings, which may be a mapping or a name."""
    if isinstance(value, str):
        first = next(field for nested, field in _nested_fields(kind) if nested == group)
        return {first: value}
    if isinstance(value, Mapping) and name not in value:
        return dict(value)
    raise ConfigError(f"{name}: {group} is given as a whole, too. Write {name} into {group}.")


def _nested_fields(kind: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of each nested settings, and each of their fields."""
    for name, of in get_type_hints(kind).items():
        for nested in filter(dataclasses.is_dataclass, _alternatives(of)):
            yield from ((name, field.name) for field in dataclasses.fields(nested))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


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
