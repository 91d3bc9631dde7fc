"""Strict YAML and JSON parsing with limits; input that either would silently accept raises."""

import dataclasses
import json
import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.text import nearest

MAX_YAML_BYTES = 2**19
MAX_JSON_BYTES = 2**26
MAX_DEPTH = 64
MAX_VALUES = 2**20
"""Largest number of values in a file, with aliases expanded."""


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file strictly: one mapping of plain values, see :func:`parse_yaml`.

    A file ``*.json`` is read as JSON, because YAML does not allow tabs.

    Raises:
        ConfigError: the file is missing or invalid; the message names the file and the line.
    """
    path = Path(path)
    is_json = path.suffix == ".json"
    text = read_text(path, MAX_JSON_BYTES if is_json else MAX_YAML_BYTES)
    content = parse_json(text, str(path)) if is_json else parse_yaml(text, str(path))
    if content is None:
        raise ConfigError(f"{path}: expected settings, as NAME: VALUE, got an empty file")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(content).__name__}")
    return content


def read_text(
    path: Path | str, max_bytes: int, *, error: type[AnalogmedError] = ConfigError
) -> str:
    """Return the text of a UTF-8 file, up to a size limit.

    Args:
        path: a regular file, or a pipe of the shell (``/dev/fd/63``).
        max_bytes: largest accepted size in bytes.
        error: exception class for a file that cannot be read.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and path.parts[:3] != ("/", "dev", "fd"):
            raise error(f"{path}: not a regular file; expected a file of text")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise error(f"{path}: expected at most {max_bytes} bytes of text, found more")
        return content.decode("utf-8-sig")
    except AnalogmedError:
        raise
    except (OSError, ValueError) as reason:
        raise error(f"cannot read {path}: {reason}") from reason


def parse_json(text: str, where: str, *, error: type[AnalogmedError] = ConfigError) -> Any:
    """Parse JSON with unique keys and limited depth and size.

    Args:
        text: JSON document.
        where: file or option, named in errors.
        error: exception class for invalid input.

    Returns:
        Plain values: dict, list, str, int, float, bool and None.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
        _check_plain(content)
    except json.JSONDecodeError as reason:
        raise error(f"{where}, line {reason.lineno}: not JSON: {reason.msg}") from reason
    except RecursionError as reason:
        raise error(f"{where}: nested more than {MAX_DEPTH} deep") from reason
    except ValueError as reason:
        raise error(f"{where}: {reason}") from reason
    return content


def parse_yaml(text: str, where: str, *, error: type[AnalogmedError] = ConfigError) -> Any:
    """Parse YAML of plain values with unique keys and limited depth and size.

    Dates are text. Anchors and aliases are allowed, merge keys (``<<``) are not.

    Args, Returns: as :func:`parse_json`.
    """
    try:
        content = yaml.load(text, Loader=_StrictLoader)
        _check_plain(content)
    except yaml.MarkedYAMLError as reason:
        mark = reason.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        hint = ". Indent by spaces, not tabs." if mark and _has_tab(text, mark.line) else ""
        raise error(f"{where}{line}: not a plain YAML file: {reason.problem}{hint}") from reason
    except RecursionError as reason:
        raise error(f"{where}: nested more than {MAX_DEPTH} deep") from reason
    except (yaml.YAMLError, ValueError) as reason:
        raise error(f"{where}: not a plain YAML file: {reason}") from reason
    return content


def _has_tab(text: str, number: int) -> bool:
    """Return whether a line is indented by a tab."""
    line = text.splitlines()[number : number + 1] or [""]
    return "\t" in line[0][: len(line[0]) - len(line[0].lstrip())]


def _check_plain(content: Any) -> None:
    """Check that parsed content consists of valid setting values.

    Raises:
        ValueError: a value has another type, a text cannot be part of a file name, a mapping or
            list contains itself, or the content exceeds the limits on values or depth.
    """
    sizes: dict[int, int | None] = {}

    def size_of(value: Any, depth: int) -> int:
        if not isinstance(value, dict | list):
            _check_scalar(value)
            return 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        known = sizes.get(id(value), 0)
        if known is None:
            raise ValueError("a mapping or list contains itself")
        if known:
            return known
        sizes[id(value)] = None
        parts = value if isinstance(value, list) else (*value.keys(), *value.values())
        size = 1 + sum(size_of(part, depth + 1) for part in parts)
        if size > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values once its aliases are written out")
        sizes[id(value)] = size
        return size

    size_of(content, 0)


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"the text {_shown(value)} holds a NUL character")
        if _SURROGATE.search(value):
            raise ValueError(f"the text {_shown(value)} holds half a character (a surrogate)")
    elif value is not None and not isinstance(value, bool | int | float):
        raise ValueError(
            f"a value of type {type(value).__name__}; expected text, numbers, true, false or null"
        )


_SURROGATE = re.compile("[\ud800-\udfff]")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else f"{text[:40]}...")


def dump_yaml(content: Any, *, on_one_line: bool = False) -> str:
    """Return plain values as YAML that :func:`parse_yaml` reads as the same values.

    Args:
        content: mappings, lists, text, numbers, booleans or ``None``, keys in order.
        on_one_line: whether to write one line with sorted keys, for an option.
    """
    if on_one_line:
        return yaml.dump(content, None, _StrictDumper, default_flow_style=True, width=math.inf)
    return yaml.dump(content, None, _StrictDumper, sort_keys=False)


def check_keys(content: dict[str, Any], config_class: type, where: str) -> None:
    """Raise ConfigError for keys that a configuration class does not have.

    Raises:
        ConfigError: a key is unknown; the message names it, the file and the nearest valid name.
    """
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    for key, value in content.items():
        if key not in fields:
            own = f" Options of the {where.rpartition(' ')[2]} itself are written under options."
            hint = own if "options" in fields else ""
            raise ConfigError(f"{where}: unknown key '{key}'; {nearest(str(key), fields)}{hint}")
        nested = fields[key].type
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{where}: {key} must be a mapping of {_names(nested)}, not {value!r}"
                )
            check_keys(value, nested, f"{where}: {key}")


def _names(config_class: Any) -> str:
    return ", ".join(field.name for field in dataclasses.fields(config_class))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key '{key}' occurs twice")
        content[key] = value
    return content


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """SafeLoader that raises on a repeated key, of which YAML would keep the last."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            # PyYAML's constructors raise these for text that does not match its tag.
            problem = f"{_shown(str(node.value))} is no value of {node.tag} ({error})"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                problem = "merge keys (<<) are not supported; write the keys out"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # SafeLoader raises
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' occurs twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _StrictDumper(yaml.SafeDumper):
    """SafeDumper that quotes text which the loader would read as a number."""


for _end in (_StrictLoader, _StrictDumper):
    _end.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),  # 1e-3, text in YAML 1.1
        list("-+0123456789"),
    )
