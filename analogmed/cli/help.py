"""Texts of ``--help``, on one screen, and ``--help-all``, with all options and defaults."""

import argparse
import copy
import dataclasses
import inspect
import re
import textwrap
import types
from argparse import SUPPRESS, Action
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from analogmed.analog.description.hardware import Hardware
from analogmed.analog.description.presets import PRESETS
from analogmed.cli.options import SHORT
from analogmed.foundation.settings.fields import positional_names, positional_options
from analogmed.foundation.time_constants import time_label

_METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
_ORDER = {"settings": 0, "options": 2}  # sections of settings between them
_LONGEST_CHOICES = 40
_BOOLEAN = "{true,false}"
_SECTION = "YAML file or mapping of the settings below"
_SHORT_SECTION = "same as --{}, or a YAML file or mapping of the settings below"
_EXAMPLES = 3
_SHORT_TEXT = 130
"""Characters of a help text in two to three lines, behind the names of the options."""


class OfPreset(NamedTuple):
    """Default of a setting of the hardware, which depends on the preset."""

    preset: str
    value: Any


class HelpFormatter(argparse.HelpFormatter):
    """Help formatter that keeps the lines of examples and the prepared texts of options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        width += 2  # argparse leaves two columns free, which examples use
        return "\n".join(textwrap.fill(line, width) if line else "" for line in text.split("\n"))

    def _expand_help(self, action: Action) -> str:
        return action.help or ""

    def _format_action_invocation(self, action: Action) -> str:
        if word := getattr(action, "positional_word", ""):
            return str(word)
        return super()._format_action_invocation(action)


class HelpAction(argparse._HelpAction):
    """Option that prints one of the help texts of a parser, and exits with status 0."""

    def __init__(self, *args: Any, text: Callable[[], str] | None = None, **named: Any) -> None:
        super().__init__(*args, **named)
        self.text = text

    def __call__(self, parser: Any, *_: Any, **__: Any) -> None:
        """Print the text of this action, by default that of all options, and exit."""
        print((self.text or parser.format_help)(), end="")
        parser.exit()


def short_help(parser: ArgumentParser, settings_class: Any, frequent: str, examples: str) -> str:
    """Return the help of a command on one screen, from a parser with described options.

    Args:
        parser: parser after :func:`describe_options`.
        settings_class: settings of the command.
        frequent: names of the options that are shown, separated by spaces; ``task`` means the short
            form ``--task``.
        examples: examples and notes below them, of which three examples and the notes are shown.
    """
    actions = {action.dest: action for action in parser._actions}
    known = _settings(settings_class)
    listed, _, notes = examples.partition("\n\n")
    shown = re.split(r"\n(?=  \S)", listed)[: _EXAMPLES + 1]
    number = sum(not dataclasses.is_dataclass(kind) for kind, _ in known.values())
    every = f"'{parser.prog} --help-all' lists all {number} options and all examples."
    formatter = parser._get_formatter()
    formatter.add_usage(parser.usage, [], [])
    formatter.add_text((parser.description or "").partition("\n\n")[0])
    formatter.add_text("\n".join(shown))
    formatter.start_section("most used options")
    formatter.add_arguments([_shortened(name, actions, known) for name in frequent.split()])
    formatter.end_section()
    formatter.add_text("\n".join([*notes.split("\n\n")[-1].strip().splitlines(), every]))
    return formatter.format_help()


def _shortened(name: str, actions: dict[str, Action], known: dict[str, Any]) -> Action:
    """Return an option whose help is shortened to the whole clauses that fit into three lines."""
    full = f"{name}.{SHORT[name]}" if f"{name}.{SHORT.get(name)}" in known else name
    action = copy.copy(actions[full])
    action.dest, action.option_strings = name, actions[name].option_strings[-1:]
    if full != name:
        action.metavar = SHORT[name].upper()
    text, _, default = (action.help or "").partition(" Default: ")
    clauses = re.split(r"(?<=[;:]) |(?<=\.) (?=[A-Z])", text)
    kept = clauses.pop(0)
    while clauses and len(kept) + 1 + len(clauses[0]) <= _SHORT_TEXT:
        kept = f"{kept} {clauses.pop(0)}"
    kept = kept.rstrip(";:.") + "."
    action.help = f"{kept} Default: {default}" if default else kept
    return action


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
            word = positionals[action.dest]
            if action.dest in positional_options(settings_class):
                _describe(action, *known[action.dest])
                word = f"{word} ..., {action.option_strings[-1]} {action.metavar}"
            action.positional_word = word  # type: ignore[attr-defined]
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
    are_times = action.dest.endswith("times_s")
    action.metavar, text = _metavar(kind), _sentence(action.help)
    if are_times:
        action.metavar = action.metavar.replace("FLOAT", "TIME")
    shown = _shown(default, are_times=are_times)
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
            preset = Hardware.preset if default is None else default.preset
            value = OfPreset(preset, PRESETS[preset].get(field.name))
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


def _shown(default: Any, *, are_times: bool = False) -> str:
    """Return a default as words of the command line; empty if the help text describes it."""
    if isinstance(default, OfPreset):
        value = _shown(default.value)
        return f"{value} ({default.preset})" if value else ""
    if are_times:
        return " ".join(time_label(time).replace(" ", "") for time in default)
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple | list):
        return " ".join(map(_shown, default))
    if default is None or default in (SUPPRESS, {}) or dataclasses.is_dataclass(default):
        return ""
    is_whole = isinstance(default, float) and default.is_integer()
    return str(int(default) if is_whole else default)
