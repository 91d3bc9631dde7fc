"""Files of settings, read strictly: what YAML lets pass in silence is refused with its line."""

import dataclasses
import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from analogmed.errors import ConfigError
from analogmed.suggest import nearest


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file strictly: one mapping, no repeated key, no Python object.

    A file ``*.json`` is read as JSON, whose tabs are no YAML.

    Raises:
        ConfigError: the file is missing or breaks one of these rules; names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    content = _from_json(text, path) if path.suffix == ".json" else _from_yaml(text, path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(content).__name__}")
    return content


def check_keys(content: dict[str, Any], config_class: type, where: str) -> None:
    """Refuse keys that a configuration class does not have.

    Raises:
        ConfigError: names the key, the file and the nearest known name.
    """
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    for key, value in content.items():
        if key not in fields:
            raise ConfigError(f"{where}: unknown key '{key}'; {nearest(str(key), fields)}")
        nested = fields[key].type
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{where}: {key} must be a mapping of {_names(nested)}, not {value!r}"
                )
            check_keys(value, nested, f"{where}: {key}")


def _names(config_class: Any) -> str:
    return ", ".join(field.name for field in dataclasses.fields(config_class))


def _from_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON of settings: {error}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key '{key}' stands twice")
        content[key] = value
    return content


def _from_yaml(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not a plain YAML file: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not a plain YAML file: {error}") from error


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a repeated key, where YAML lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # SafeLoader refuses it
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),  # 1e-3, text in YAML 1.1
    list("-+0123456789"),
)
