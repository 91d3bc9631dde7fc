"""Arguments in Python: short forms of settings, flat keywords, and errors of wrong names."""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import (
    Any,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import known_name, nearest, nearest_name


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
        elif any(get_origin(of) is tuple for of in kinds):
            expanded = (value,) if isinstance(value, str | Path) else value
            _require_list(name, expanded, kinds)
        expanded = _with_paths(name, expanded, kinds)
        if expanded is not value:
            object.__setattr__(settings, name, expanded)


def _require_list(name: str, value: object, kinds: tuple[Any, ...]) -> None:
    if isinstance(value, Iterable) or (value is None and type(None) in kinds):
        return
    if all(get_origin(of) is tuple or of is type(None) for of in kinds):
        raise ConfigError(f"{name}: expected a list, got {type(value).__name__}")


def _with_paths(name: str, value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return the value with paths in place of their texts, alone, in a tuple or in a mapping."""
    if value is None and type(None) in kinds:
        return None
    if Path in kinds and str not in kinds:
        return _path(name, value)
    for kind in kinds:
        if get_args(kind) == (Path, ...):
            listed = value if isinstance(value, tuple | list) else (value,)
            return tuple(_path(name, path) for path in listed)
        if isinstance(value, dict) and get_args(kind) == (str, Path):
            return {key: _path(name, path) for key, path in value.items()}
    return value


def _path(name: str, value: object) -> Path:
    if isinstance(value, str | Path):
        return Path(value)
    raise ConfigError(f"{name}: expected a path, or its text, got {type(value).__name__}")


_NAMES = ("name", "preset")
"""First fields that a text stands for."""
_S = TypeVar("_S")
_S_contra = TypeVar("_S_contra", contravariant=True)
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_P = ParamSpec("_P")


def checks_arguments(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Raise a ConfigError, which names the accepted arguments, where Python raises a TypeError.

    Applies to unknown, missing and surplus arguments of a function, or of the settings class that
    this decorates. An argument that is one of several names takes the name that a text spells in
    any case; a settings class refuses other values of it. Warnings of the function come from one
    frame deeper than without it.
    """
    signature = inspect.signature(function)
    choices = {
        name: names
        for name, parameter in signature.parameters.items()
        if (names := names_of(parameter.annotation))
    }

    def checked(*args: Any, **named: Any) -> inspect.BoundArguments:
        try:
            bound = signature.bind(*args, **named)
        except TypeError as error:
            raise _misfit(function.__name__, signature, named, str(error)) from None
        for name in choices.keys() & bound.arguments.keys():
            bound.arguments[name] = spelled(bound.arguments[name], choices[name])
        return bound

    if isinstance(function, type):
        return _checked_class(function, checked)

    @functools.wraps(function)
    def call(*args: _P.args, **named: _P.kwargs) -> _R:
        bound = checked(*args, **named)
        return function(*bound.args, **bound.kwargs)

    return call


def _checked_class(kind: Any, checked: Callable[..., inspect.BoundArguments]) -> Any:
    """Return the class, whose instances are now made of checked arguments."""
    build = kind.__init__
    choices = {
        name: found
        for name, each in inspect.signature(kind).parameters.items()
        if (found := _choices_of(each.annotation))
        and (each.default is not None or None in found)  # Hardware checks what its preset sets
    }

    @functools.wraps(build)
    def init(self: Any, *args: Any, **named: Any) -> None:
        bound = checked(*args, **named)
        build(self, *bound.args, **bound.kwargs)  # checks of the class itself say more
        for name in choices.keys() & bound.arguments.keys():
            _require_choice(name, getattr(self, name), choices[name])

    kind.__init__ = init
    return kind


def _choices_of(kind: Any) -> tuple[Any, ...]:
    """Return the values that a type accepts if it is a list of values, perhaps with ``None``."""
    members = _alternatives(kind)
    if not all(get_origin(member) is Literal or member is type(None) for member in members):
        return ()
    return tuple(v for m in members for v in (get_args(m) if get_origin(m) is Literal else (None,)))


def _require_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise a ConfigError for another value than the choices; true and false are no numbers."""
    is_flag = isinstance(value, bool)
    if not any(value == each and is_flag == isinstance(each, bool) for each in choices):
        listed = " or ".join(map(repr, choices))
        raise ConfigError(f"{name}: expected {listed}, got {value!r}")


def names_of(kind: Any) -> tuple[str, ...]:
    """Return the names that a type, or the items of a tuple of this type, may be; often none."""
    found: list[str] = []
    for member in _alternatives(kind):
        if get_origin(member) is Literal:
            found += [name for name in get_args(member) if isinstance(name, str)]
        elif get_origin(member) is tuple:
            found += (name for part in get_args(member) for name in names_of(part))
    return tuple(dict.fromkeys(found))


def spelled(value: Any, names: tuple[str, ...]) -> Any:
    """Return the name that a text spells in any case, also each of a list; others unchanged."""
    if isinstance(value, list | tuple):
        return type(value)(known_name(each, names) for each in value)
    return known_name(value, names)


def _misfit(
    name: str, signature: inspect.Signature, named: Iterable[str], problem: str
) -> ConfigError:
    """Return the error of arguments that do not fit a signature."""
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    accepted = [each for each in signature.parameters if each != "self"]
    accepted = accepted[: -1 if takes_any else None]
    listed = f"It accepts {', '.join(accepted)}{' and options' if takes_any else ''}."
    unknown = None if takes_any else next((each for each in named if each not in accepted), None)
    if unknown is None:
        return ConfigError(f"{name}: {problem}. {listed}")
    meant = nearest_name(unknown, accepted)
    suggestion = "." if meant is None else f"; did you mean '{meant}'?"
    return ConfigError(f"{name}: unknown argument '{unknown}'{suggestion} {listed}")


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
    parameter, kind = next(iter(program.__annotations__.items()))

    @functools.wraps(program)
    def call(config: _S | None = None, /, *others: object, **settings: Any) -> _R:
        if config is None and isinstance(settings.get(parameter), kind):
            config = settings.pop(parameter)
        if config is not None and settings:
            raise ConfigError(
                f"{program.__name__}: expected {kind.__name__}(...) or keywords, got both "
                f"({', '.join(settings)}). Write these into {kind.__name__}(...)."
            )
        if others or not isinstance(config, kind | None):
            got = ", ".join(type(value).__name__ for value in (config, *others))
            raise ConfigError(
                f"{program.__name__}: expected {kind.__name__}(...) or keywords, got {got}. Give "
                "each setting by its name: setting=value."
            )
        return program(settings_of(kind, settings, program.__name__) if config is None else config)

    return call


def settings_of(kind: Any, given: Mapping[str, Any], program: str = "settings") -> Any:
    """Return settings from flat keywords; other settings of a nested group keep their defaults.

    Args:
        kind: settings class.
        given: values by field, or by field of exactly one of the nested settings.
        program: name of the function that takes them, for messages.

    Raises:
        ConfigError: a keyword is unknown, several nested settings have it, or one of them is given
            as a whole, too.
    """
    own = [field.name for field in dataclasses.fields(kind)]
    homes: dict[str, list[str]] = {}
    for group, field in _nested_fields(kind):
        homes.setdefault(field, []).append(group)
    fields = {name: value for name, value in given.items() if name in own}
    flat: dict[str, dict[str, Any]] = {}
    for name in [name for name in given if name not in fields]:
        if name not in homes:
            raise ConfigError(
                f"{program}: unknown setting {name!r}; {nearest(name, [*own, *homes])}"
            )
        group = _only_home(name, homes[name])
        flat.setdefault(group, {})[name] = given[name]
    for group, parts in flat.items():
        known = _given_fields(group, fields[group], kind, parts) if group in fields else None
        fields[group] = (_own_defaults(group, kind) if known is None else known) | parts
    return kind(**fields)


def _only_home(name: str, groups: list[str]) -> str:
    if len(groups) > 1:
        raise ConfigError(
            f"{name}: expected a setting of one group, got one of {' and '.join(groups)}. Give it "
            f"as {groups[0]}={{{name!r}: ...}}."
        )
    return groups[0]


def _given_fields(group: str, value: object, kind: Any, flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of nested settings that are given as a mapping or a name."""
    first = next(field for nested, field in _nested_fields(kind) if nested == group)
    if isinstance(value, str) and first in _NAMES:
        value = {first: value}
    if isinstance(value, Mapping) and not value.keys() & flat.keys():
        return dict(value)
    name = next(iter(flat))
    raise ConfigError(f"{name}: {group} is given as a whole, too. Write {name} into {group}.")


def _own_defaults(group: str, kind: Any) -> dict[str, Any]:
    """Return the defaults of nested settings that differ from those of their class."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == group)
    if not dataclasses.is_dataclass(field.default):
        return {}
    nested: Any = type(field.default)
    plain = nested()
    values = {part.name: getattr(field.default, part.name) for part in dataclasses.fields(plain)}
    return {name: value for name, value in values.items() if value != getattr(plain, name)}


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
