"""Settings as command-line options."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from analogmed.analog.description.hardware import Hardware
from analogmed.cli.words import is_quoted
from analogmed.foundation.settings.plain import to_plain
from analogmed.foundation.strict_yaml import dump_yaml

SHORT = {
    "task": "name",
    "model": "name",
    "hardware": "preset",
    "optimizer": "name",
    "strategy": "name",
}
"""Short options: ``--task lgg`` is short for ``--task.name lgg``."""


def to_options(config: Any, prefix: str = "") -> list[str]:
    """Return the arguments from which ``parse`` rebuilds these settings, without defaults.

    Args:
        config: a frozen dataclass of :mod:`analogmed.config`.
        prefix: prefix of the options for a section of a configuration, such as ``task.``.
    """
    options: list[str] = []
    default = Hardware(config.preset) if isinstance(config, Hardware) else type(config)()
    if isinstance(config, Hardware) and config.preset != Hardware.preset:
        options += [f"--{prefix}preset", config.preset]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == getattr(default, field.name):
            continue
        if dataclasses.is_dataclass(value):
            options += to_options(value, f"{prefix}{field.name}.")
        else:
            options += _option(f"--{prefix}{field.name}", to_plain(value), is_list(field.type))
    return _shortened(options)


def _option(name: str, plain: Any, is_list: bool) -> list[str]:
    one_word_each = is_list and isinstance(plain, list) and not any(type(v) is dict for v in plain)
    words = list(map(str, plain)) if one_word_each else []
    if words and words != ["null"] and not any(_needs_brackets(word) for word in words):
        return [name, *words]
    word = plain if isinstance(plain, str) else _written(plain)
    if isinstance(plain, str) and (plain == "null" or is_quoted(plain)):
        word = json.dumps(plain)
    return [f"{name}={word}"] if word.startswith("-") else [name, word]


def _needs_brackets(word: str) -> bool:
    return word.startswith(("-", "["))


def _written(plain: Any) -> str:
    """Return plain values on one line: as JSON, or as YAML if a key is not a string."""
    text = json.dumps(plain)
    if json.loads(text) == plain:
        return text
    return dump_yaml(plain, on_one_line=True).strip()


def _shortened(options: Sequence[str]) -> list[str]:
    long = {f"--{name}.{setting}": f"--{name}" for name, setting in SHORT.items()}
    return [long.get(word, word) for word in options]


def is_list(kind: Any) -> bool:
    """Return whether the type of a setting is a list or a union of lists."""
    members = [kind] if get_origin(kind) is tuple else get_args(kind) or (kind,)
    return all(get_origin(member) is tuple for member in members if member is not type(None))
