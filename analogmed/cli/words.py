"""Conversion of command-line words to values without a second YAML pass.

jsonargparse parses each word, and each text inside a mapping, as YAML: ``*conv1`` becomes an alias,
``#x`` is empty, ``010`` is the number 8 and ``no`` is false. This module replaces text that YAML
would change, and mappings of arbitrary values, by placeholders before parsing, and restores them in
the parsed settings.
"""

import dataclasses
import json
import re
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from jsonargparse import Namespace

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.forms import names_of, spelled
from analogmed.foundation.strict_yaml import (
    MAX_YAML_BYTES,
    check_keys,
    dump_yaml,
    parse_json,
    parse_yaml,
)
from analogmed.foundation.time_constants import to_seconds, warn_of_days

T = TypeVar("T")

_PREFIX = "analogmed_placeholder_"
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+-]*")


class Words:
    """Values of one command line that jsonargparse must not parse as YAML."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._mappings: dict[str, dict[str, Any]] = {}

    def option(self, name: str, kind: Any, values: Sequence[str]) -> str:
        """Return the value of an option for jsonargparse.

        Args:
            name: name of the option, for messages.
            kind: type of its setting.
            values: words of the option, at least one.

        Raises:
            ConfigError: a mapping or list is not YAML of plain values.
        """
        if _is_mapping(kind) or dataclasses.is_dataclass(kind):
            content = read_word(values[0], name)
            if dataclasses.is_dataclass(kind) and isinstance(content, dict):
                check_keys(content, kind, name)  # type: ignore[arg-type]
            return _dumped(self.shielded(content, kind, name.removeprefix("--")))
        if list(values) == ["null"] and type(None) in get_args(kind):
            return "null"
        if not _is_list(kind):
            return str(self.shielded(unquoted(values[0], kind), kind, name))
        content = _list_of(values[0], name) if len(values) == 1 else None
        if content is None and _are_times(name, kind):
            content = list(values)
        if content is not None and _are_times(name, kind):
            warn_of_days(content, name)
        if content is None and not _holds_text(kind):
            return f"[{', '.join(spelled(list(values), names_of(kind)))}]"
        return _dumped(self.shielded(list(values) if content is None else content, kind, name))

    def entry(self, name: str, key: str, value: str) -> str:
        """Set one entry of a mapping, for instance ``task.options`` and ``label``."""
        mapping = self._mappings.setdefault(name, {})
        *parents, last = key.split(".")
        for parent in parents:
            below = mapping.setdefault(parent, {})
            if not isinstance(below, dict):
                raise ConfigError(f"--{name}.{key}: {parent} is {below!r}; expected a mapping")
            mapping = below
        mapping[last] = _text_or_value(value, f"--{name}.{key}")
        return _dumped({self._placed(self._mappings[name]): "0"})

    def shielded(self, content: Any, kind: Any, name: str = "") -> Any:
        """Return plain values with placeholders for text that jsonargparse would parse again.

        Args:
            content: plain values.
            kind: type of the setting that the values belong to.
            name: dotted name of the setting; a mapping of this name may receive entries later.
        """
        if names := names_of(kind):
            return spelled(content, names)
        if isinstance(content, str):
            return self._placed(content) if _is_text(kind) and not _is_plain(content) else content
        if isinstance(content, list) and _are_times(name, kind):
            return [_in_seconds(value, name) for value in content]
        if isinstance(content, list) and _is_list(kind):
            (inner,) = {k for k in get_args(_alternatives(kind)[0]) if k is not Ellipsis}
            return [self.shielded(v, inner, f"{name}.{i}") for i, v in enumerate(content)]
        if isinstance(content, dict) and _is_mapping(kind):
            self._mappings[name] = _copied(content)
            return {self._placed(_typed(content, kind, name)): "0"}  # also a path or a number
        if isinstance(content, dict) and dataclasses.is_dataclass(kind):
            kinds = {field.name: field.type for field in dataclasses.fields(kind)}
            return {
                key: self.shielded(value, kinds.get(key), f"{name}.{key}" if name else key)
                for key, value in content.items()
            }
        return content

    def with_texts(self, parsed: Any) -> Any:
        """Replace placeholders by their texts, before settings are built and checked."""
        if isinstance(parsed, str):
            return self._values.get(parsed, parsed)
        if isinstance(parsed, Path):
            return type(parsed)(self._values.get(str(parsed), parsed))
        if isinstance(parsed, Namespace):
            for name, part in vars(parsed).items():
                setattr(parsed, name, self.with_texts(part))
        if isinstance(parsed, (list, tuple)):
            return type(parsed)(map(self.with_texts, parsed))
        return parsed

    def with_mappings(self, settings: T) -> T:
        """Return settings with mappings instead of their placeholders.

        jsonargparse parses the values of a mapping again when it builds the settings.
        """
        value: Any = settings
        if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            return tuple(map(self.with_mappings, value))  # type: ignore[return-value]
        if isinstance(value, dict):
            return self._values.get(next(iter(value), None), value)  # type: ignore[arg-type]
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return settings
        old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        new = {name: self.with_mappings(part) for name, part in old.items()}
        changed = {name: part for name, part in new.items() if part is not old[name]}
        restored: T = dataclasses.replace(value, **changed) if changed else value  # type: ignore[assignment]
        return restored

    def spelt_out(self, message: str) -> str:
        """Return a message with the words of the user instead of placeholders."""
        return re.sub(_PREFIX + r"\d+", lambda m: str(self._values.get(m[0], m[0])), message)

    def _placed(self, value: Any) -> str:
        placeholder = f"{_PREFIX}{len(self._values)}"
        self._values[placeholder] = value
        return placeholder


def read_word(word: str, where: str) -> Any:
    """Parse a word as JSON or, if that fails, as strict YAML.

    Raises:
        ConfigError: the word is neither; the message names the option.
    """
    if len(word) > MAX_YAML_BYTES:
        raise ConfigError(f"{where}: more than {MAX_YAML_BYTES} characters; use --config FILE")
    try:
        json.loads(word)
    except (ValueError, RecursionError):
        return parse_yaml(word, where)
    return parse_json(word, where)


def unquoted(word: str, kind: Any = str) -> str:
    """Return the text of a double-quoted word, and any other word unchanged."""
    if _is_text(kind) and is_quoted(word):
        return str(json.loads(word))
    return word


def is_quoted(word: str) -> bool:
    """Return whether a word is a double-quoted JSON string."""
    if not word.startswith('"'):
        return False
    try:
        return isinstance(json.loads(word), str)
    except ValueError:
        return False


def _text_or_value(word: str, where: str) -> Any:
    try:
        return read_word(word, where)
    except ConfigError:
        if word.startswith(("{", "[")):
            raise
        return word


def _list_of(word: str, where: str) -> list[Any] | None:
    """Return the list that a word in brackets denotes, or ``None`` for other words (``[ab]*``)."""
    if not word.startswith("["):
        return None
    try:
        content = read_word(word, where)
    except ConfigError:
        if word.endswith("]"):
            raise
        return None
    return content if isinstance(content, list) else None


def _is_plain(text: str) -> bool:
    """Return whether YAML and jsonargparse leave a text unchanged."""
    if not _PLAIN.fullmatch(text) or text.startswith(_PREFIX):
        return False
    try:
        float(text)
    except ValueError:
        return yaml.safe_load(text) == text
    return False


def _dumped(content: Any) -> str:
    text = dump_yaml(content, on_one_line=True)
    return text.removesuffix("\n...\n").strip()


def _typed(content: dict[Any, Any], kind: Any, name: str) -> dict[Any, Any]:
    """Return the values of a mapping, converted to paths if its type requires paths."""
    if get_args(_alternatives(kind)[0])[-1] is not Path:
        return content
    if not all(isinstance(value, str) for value in content.values()):
        raise ConfigError(f"{name}: expected a path for each name, got {content!r}")
    return {key: Path(value) for key, value in content.items()}


def _copied(content: Any) -> Any:
    return {k: _copied(v) for k, v in content.items()} if isinstance(content, dict) else content


def _alternatives(kind: Any) -> list[Any]:
    """Return the members of a union except None."""
    if get_origin(kind) in (Union, types.UnionType):
        return [member for member in get_args(kind) if member is not type(None)]
    return [kind]


def _are_times(name: str, kind: Any) -> bool:
    """Return whether a setting is a list of times, as ``sweep.times_s``."""
    return name.endswith("_s") and _is_list(kind) and float in get_args(_alternatives(kind)[0])


def _in_seconds(value: Any, name: str) -> Any:
    """Return a text such as ``1 day`` or ``3600`` in s, and any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return to_seconds(value)
    except ConfigError as error:
        raise ConfigError(f"{name.removeprefix('--')}: {error}") from error


def _is_text(kind: Any) -> bool:
    return all(member in (str, Path) for member in _alternatives(kind))


def _is_list(kind: Any) -> bool:
    return all(get_origin(member) is tuple for member in _alternatives(kind))


def _is_mapping(kind: Any) -> bool:
    return all(get_origin(member) is dict for member in _alternatives(kind))


def _holds_text(kind: Any) -> bool:
    return _is_list(kind) and all(
        _is_text(inner) for k in _alternatives(kind) for inner in get_args(k) if inner is not ...
    )
