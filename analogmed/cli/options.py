"""Settings as command-line options."""

import dataclasses
import json
from collections.abc import Sequence
from contextvars import ContextVar
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


CONFIG_FILES: ContextVar[tuple[str, ...]] = ContextVar("config_files", default=())
"""Files of settings (``--config``) of the command line that was parsed last."""


def to_options(config: Any, prefix: str = "", *, base: Any = None) -> list[str]:
    """Return the arguments from which ``parse`` rebuilds these settings, without defaults.

    Args:
        config: a frozen dataclass of :mod:`analogmed.config`.
        prefix: prefix of the options for a section of a configuration, such as ``task.``.
        base: settings in place of the defaults, for instance those of a file.
    """
    options: list[str] = []
    default = type(config)() if base is None else base
    if isinstance(config, Hardware) and config.preset != default.preset:
        options += [f"--{prefix}preset", config.preset]
        default = Hardware(config.preset)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == getattr(default, field.name):
            continue
        if dataclasses.is_dataclass(value):
            inner = getattr(default, field.name)
            options += to_options(value, f"{prefix}{field.name}.", base=inner)
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
