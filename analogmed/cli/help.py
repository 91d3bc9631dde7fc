"""Text of ``--help``: usage, description, and the options with their defaults."""

import dataclasses
import inspect
import textwrap
import types
from argparse import SUPPRESS, Action
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from analogmed.analog.description.hardware import Hardware
from analogmed.cli.options import SHORT
from analogmed.foundation.settings.fields import positional_names

_METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
_ORDER = {"settings": 0, "options": 2}  # sections of settings between them
_LONGEST_CHOICES = 40
_BOOLEAN = "{true,false}"
_SECTION = "YAML file or mapping of the settings below"
_SHORT_SECTION = "same as --{}, or a YAML file or mapping of the settings below"


class HelpFormatter(DefaultHelpFormatter):
    """Help formatter that keeps the lines of examples and the prepared texts of options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        width += 2  # argparse leaves two columns free, which examples use
        return "\n".join(textwrap.fill(line, width) if line else "" for line in text.split("\n"))

    def _get_help_string(self, action: Action) -> str:
        return action.help or ""

    def _format_action_invocation(self, action: Action) -> str:
        if word := getattr(action, "positional_word", ""):
            return str(word)
        return super()._format_action_invocation(action)


def usage_of(settings_class: Any, prog: str) -> str:
    """Return the usage line of a command."""
    fields = {field.name: field for field in dataclasses.fields(settings_class)}
    words = []
    for name, word in positional_names(settings_class).items():
        is_optional = fields[name].default is not dataclasses.MISSING
        is_list = get_origin(fields[name].type) is tuple
        first = "" if is_list and is_optional else word
        more = f"[{word} ...]" if is_list else ""
        words.append(f"{first} {more}".strip())
    return " ".join([prog, *words, "[options]"])


def description_of(settings_class: Any) -> str:
    """Return the documentation of a settings class without its attributes, one line a paragraph."""
    text = (inspect.getdoc(settings_class) or "").partition("\nAttributes:")[0].strip()
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def describe_options(parser: ArgumentParser, settings_class: Any) -> None:
    """Replace metavars and help of the options of a parser, built by jsonargparse, by own ones."""
    positionals = positional_names(settings_class)
    known = _settings(settings_class)
    for action in parser._actions:
        if action.dest == "print_config":
            action.help = "print all settings as YAML and exit"
            action.metavar = "[=FLAGS]"
        elif action.dest.endswith(".help"):
            action.help = SUPPRESS  # of a list of sections, which files hold
        elif action.dest in positionals:
            action.positional_word = positionals[action.dest]  # type: ignore[attr-defined]
            action.help = _sentence(action.help)
        elif action.dest in known:
            _describe(action, *known[action.dest])
    first = description_of(settings_class).partition("\n")[0].rstrip(".")
    for group in parser._action_groups:
        if group.title == first:
            group.title = "settings"
    groups: Any = parser._action_groups
    groups.sort(key=lambda group: _ORDER.get(str(group.title), 1))


def _describe(action: Action, kind: Any, default: Any) -> None:
    if dataclasses.is_dataclass(kind):
        short = f"{action.dest}.{SHORT[action.dest]}" if action.dest in SHORT else ""
        action.metavar = f"{SHORT[action.dest].upper()}|FILE" if short else "FILE"
        action.help = _SHORT_SECTION.format(short) if short else _SECTION
        return
    action.metavar, text, shown = _metavar(kind), _sentence(action.help), _shown(default)
    choices, _, more = action.metavar.removeprefix("{").partition("}")
    if len(action.metavar) > _LONGEST_CHOICES and action.metavar.startswith("{"):
        names = ", ".join(choices.split(","))
        text = f"{text} {'One or more of' if more else 'One of'}: {names}."
        action.metavar = f"NAME{more}"
    action.help = f"{text} Default: {shown}." if shown else text


def _sentence(text: str | None) -> str:
    """Return a documentation text without markup, as a sentence."""
    text = " ".join((text or "").replace("``", "").split())
    return text if text.endswith((".", ":")) or not text else f"{text}."


def _settings(settings_class: Any, prefix: str = "", default: Any = None) -> dict[str, Any]:
    """Return type and default of each setting by its dotted name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings_class):
        value = _default(field) if default is None else getattr(default, field.name)
        if settings_class is Hardware and field.name != "preset":
            value = None  # taken from the preset
        found[prefix + field.name] = (field.type, value)
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            found |= _settings(field.type, f"{prefix}{field.name}.", value)
    return found


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _metavar(kind: Any) -> str:
    """Return the words that an option takes, for instance ``INT`` or ``TEXT [TEXT ...]``."""
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return "|".join(_metavar(member) for member in members if member is not type(None))
    if origin is Literal:
        return "{" + ",".join(map(str, members)) + "}"
    if origin is tuple and members[-1:] == (Ellipsis,):
        one = _metavar(members[0])
        return f"{one} [{one} ...]" if len(one) < 8 else f"{one} ..."
    if origin is tuple:
        return " ".join(map(_metavar, members))
    if origin is dict:
        return "MAPPING"
    if kind is bool:
        return _BOOLEAN
    return "MAPPING" if dataclasses.is_dataclass(kind) else _METAVARS.get(kind, "VALUE")


def _shown(default: Any) -> str:
    """Return a default as words of the command line; empty if the help text describes it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return " ".join(map(_shown, default))
    if default is None or default in (SUPPRESS, {}) or dataclasses.is_dataclass(default):
        return ""
    is_whole = isinstance(default, float) and default.is_integer()
    return str(int(default) if is_whole else default)
