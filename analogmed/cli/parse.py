"""Command-line parsing: a configuration class, a YAML file and `--a.b value` overrides."""

import dataclasses
import re
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter

from analogmed.analog.description.hardware import Hardware
from analogmed.analog.description.presets import PRESETS
from analogmed.cli.options import SHORT, is_list
from analogmed.cli.words import Words
from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.settings.plain import to_plain
from analogmed.foundation.strict_yaml import check_keys, dump_yaml, read_yaml
from analogmed.foundation.text import nearest

T = TypeVar("T")


def parse(config_class: type[T], arguments: Sequence[str], *, prog: str, epilog: str = "") -> T:
    """Build a configuration from the command line.

    Args:
        config_class: a frozen dataclass of :mod:`analogmed.config`.
        arguments: words of the command line without the program name.
        prog: program name in messages.
        epilog: examples printed below ``--help``.

    Raises:
        ConfigError: an option or key is unknown or malformed; the message names the nearest name.
    """
    words = Words()
    arguments = _expand(arguments, config_class, words)
    parser = _parser(config_class, prog, epilog)
    names = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    try:
        parsed = parser.instantiate(words.with_texts(parser.parse_args(arguments)))
        config = config_class(**{name: parsed[name] for name in names})
    except ArgumentError as error:
        raise ConfigError(words.spelt_out(_explain(str(error), parser))) from error
    except AnalogmedError as error:
        raise type(error)(words.spelt_out(str(error))) from error
    return words.with_mappings(config)


def _parser(config_class: type, prog: str, epilog: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=_KeepingLines,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of these settings")
    parser.add_class_arguments(config_class, None)
    names = {field.name for field in dataclasses.fields(config_class)}
    if "space" in names:
        parser.set_defaults({"space.blocks": []})  # derived from the dimensions of the space
    if "hardware" in names:
        arguments = [field.name for field in dataclasses.fields(Hardware)]
        parser.set_defaults({f"hardware.{name}": None for name in arguments if name != "preset"})
    return parser


class _KeepingLines(DefaultHelpFormatter):
    """Help formatter that prints the examples below the options verbatim."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text


def _expand(arguments: Sequence[str], config_class: type, words: Words) -> list[str]:
    """Return the arguments in the form that jsonargparse expects.

    Short options are expanded to their full names, settings files are read strictly, and the values
    of a list (``--checkpoints a.safetensors b.safetensors``) are enclosed in brackets.
    """
    kinds = dict(_settings(config_class)) | {"config": config_class}
    expanded: list[str] = []
    for name, values in _options(arguments):
        setting = name.removeprefix("--")
        if setting in SHORT:
            setting = f"{setting}.{SHORT[setting]}"
            name = f"--{setting}"
        kind = kinds.get(setting)
        mapping = _mapping_of(setting, kinds)
        if not values:
            expanded.append(name)
            continue
        first, *rest = values
        if kind is None and mapping is not None:
            name, first = f"--{mapping}", words.entry(mapping, setting[len(mapping) + 1 :], first)
        elif setting == "config" or (dataclasses.is_dataclass(kind) and Path(first).is_file()):
            first = _settings_of(first, kind, words, "" if setting == "config" else setting)
        elif kind is not None:
            rest = [] if is_list(kind) else rest
            first = words.option(name, kind, values)
        expanded += [f"{name}={first}", *rest]
    return expanded


def _mapping_of(setting: str, kinds: dict[str, Any]) -> str | None:
    """Return the mapping that contains a setting: ``task.options`` for ``task.options.label``."""
    parts = setting.split(".")
    names = (".".join(parts[:n]) for n in range(1, len(parts)))
    return next((name for name in names if get_origin(kinds.get(name)) is dict), None)


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option with its values; words before the first option are yielded alone."""
    name: str | None = None
    values: list[str] = []
    for argument in arguments:
        if argument.startswith("-") and not _NUMBER.fullmatch(argument):
            if name is not None:
                yield name, values
            name, equals, value = argument.partition("=")
            values = [value] if equals else []
        elif name is None:
            yield argument, []
        else:
            values.append(argument)
    if name is not None:
        yield name, values


_NUMBER = re.compile(r"-[0-9.].*")


def _settings(config_class: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the type of each setting, including those of sections."""
    for field in dataclasses.fields(config_class):
        yield prefix + field.name, field.type
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from _settings(field.type, f"{prefix}{field.name}.")


def _settings_of(path: str, config_class: Any, words: Words, section: str) -> str:
    """Return a settings file as one line of YAML, after strict checks.

    Values of a hardware section that repeat its preset are left out, so that the resolved
    experiment.yaml of a run can be combined with another ``--hardware``.
    """
    content = read_yaml(path)
    for key, short in SHORT.items():
        if isinstance(content.get(key), str):
            content[key] = {short: content[key]}
    check_keys(content, config_class, path)
    if isinstance(hardware := content.get("hardware"), dict):
        preset = hardware.get("preset", Hardware.preset)
        of_preset = to_plain(PRESETS.get(preset, {})) if isinstance(preset, str) else {}
        content["hardware"] = {
            key: value
            for key, value in hardware.items()
            if key not in of_preset or value != of_preset[key]
        }
    content = words.shielded(content, config_class, section)
    return dump_yaml(content, on_one_line=True)


def _explain(message: str, parser: ArgumentParser) -> str:
    prefix = "unrecognized arguments: "
    if choice := _CHOICE.search(message):
        return _unknown_choice(*choice.groups())
    if not message.lower().startswith(prefix):
        message = re.sub(r"<class '(\w+)'>", r"\1", message.replace("Parser key ", "setting "))
        return " ".join(message.split())
    option = message[len(prefix) :].strip().partition(" ")[0].partition("=")[0]
    if not option.startswith("-"):
        return f"unexpected argument '{option}'; a setting is written --name value"
    known = {name for action in parser._actions for name in action.option_strings}
    return f"unknown option {option}; {nearest(option, known)}"


_CHOICE = re.compile(
    r"""Parser key "(.+?)":\s+Expected a typing\.Literal\[(.+?)]\. Got value: (.*)"""
)


def _unknown_choice(setting: str, choices: str, value: str) -> str:
    known = re.findall(r"'(.+?)'", choices)
    meant = nearest(value, known)
    every = f" ({', '.join(known)})" if meant.endswith("?") else ""
    return f"{setting}: '{value}' is not known; {meant}{every}"
