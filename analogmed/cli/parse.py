"""Command-line parsing: a configuration class, a YAML file and `--a.b value` overrides."""

import dataclasses
import json
import math
import re
from argparse import ArgumentError
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, get_origin

from jsonargparse import ActionConfigFile, ArgumentParser

from analogmed.analog.description.hardware import Hardware
from analogmed.analog.description.presets import PRESETS
from analogmed.cli.commands import COMMANDS, is_path
from analogmed.cli.help import (
    HelpAction,
    HelpFormatter,
    describe_options,
    description_of,
    short_help,
    usage_of,
)
from analogmed.cli.options import CONFIG_FILES, SHORT, is_list
from analogmed.cli.words import Words
from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.settings.fields import names_that_may_be_empty, positional_names
from analogmed.foundation.settings.paths import read_plain_settings
from analogmed.foundation.settings.plain import to_plain
from analogmed.foundation.strict_yaml import check_keys, dump_yaml
from analogmed.foundation.text import known_name, nearest, nearest_name

T = TypeVar("T")


def parse(
    config_class: type[T],
    arguments: Sequence[str],
    *,
    prog: str,
    epilog: str = "",
    frequent: str = "",
) -> T:
    """Build a configuration from the command line.

    Args:
        config_class: a frozen dataclass, the settings of a command.
        arguments: words of the command line without the program name.
        prog: program name in messages.
        epilog: examples printed in ``--help``.
        frequent: names of the options that ``--help`` lists, separated by spaces; without any, it
            lists all, as ``--help-all`` does.

    Raises:
        ConfigError: an option or key is unknown or malformed, or a required word is missing; the
            message names the nearest name.
    """
    words = Words()
    CONFIG_FILES.set(())
    arguments = _expand(arguments, config_class, words)
    parser = build_parser(config_class, prog, epilog, frequent)  # type: ignore[arg-type]  # classes are hashable
    names = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    try:
        parsed = parser.instantiate(words.with_texts(parser.parse_args(arguments)))
        config = config_class(**{name: parsed[name] for name in names})
    except ArgumentError as error:
        message = _explain(str(error), parser, config_class)
        raise ConfigError(words.spelt_out(message)) from error
    except AnalogmedError as error:
        raise type(error)(words.spelt_out(str(error))) from error
    return words.with_mappings(config)


@cache
def build_parser(config_class: type, prog: str, epilog: str, frequent: str = "") -> ArgumentParser:
    """Return the parser of a command, with the help texts of its options; takes 0.1 s once."""
    parser = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        usage=usage_of(config_class, prog),
        description=description_of(config_class),
        epilog=epilog,
        allow_abbrev=False,
        add_help=False,
        formatter_class=HelpFormatter,
    )
    help_action: Any = parser.add_argument(
        "-h", "--help", action=HelpAction, help="print the most used options and exit"
    )
    parser.add_argument(
        "--help-all", action=HelpAction, help="print all options and examples and exit"
    )
    file_help = (
        "YAML file of settings; its relative paths, except out and store, are relative to the file"
    )
    parser.add_argument("--config", action=ActionConfigFile, metavar="FILE", help=file_help)
    parser.add_class_arguments(config_class, None)
    names = {field.name for field in dataclasses.fields(config_class)}
    if "space" in names:
        parser.set_defaults({"space.blocks": []})  # derived from the dimensions of the space
    if "hardware" in names:
        arguments = [field.name for field in dataclasses.fields(Hardware)]
        parser.set_defaults({f"hardware.{name}": None for name in arguments if name != "preset"})
    describe_options(parser, config_class)
    if frequent:
        help_action.text = partial(short_help, parser, config_class, frequent, epilog)
    return parser


def _expand(arguments: Sequence[str], config_class: type, words: Words) -> list[str]:
    """Return the arguments in the form that jsonargparse expects.

    Words without an option become options, short options are expanded to their full names,
    settings files are read strictly, and the values of a list (``--checkpoints a.safetensors
    b.safetensors``) are enclosed in brackets.
    """
    kinds = dict(_settings(config_class)) | {"config": config_class}
    may_be_empty = names_that_may_be_empty(config_class)
    expanded: list[str] = []
    given: set[str] = set()
    for name, values in _options(_with_names(arguments, config_class, kinds)):
        setting = name.removeprefix("--")
        if setting in SHORT and f"{setting}.{SHORT[setting]}" in kinds:
            setting = f"{setting}.{SHORT[setting]}"
            name = f"--{setting}"
        kind = kinds.get(setting)
        if setting in given and kind is not None and is_list(kind):
            raise ConfigError(f"{name}: expected all values after one {name}, got it twice")
        given.add(setting)
        mapping = _mapping_of(setting, kinds)
        if not values:
            empty = "=[]" if setting in may_be_empty else "=true" if kind is bool else ""
            expanded.append(f"{name}{empty}")
            continue
        first, *rest = values
        if kind is None and mapping is not None:
            name, first = f"--{mapping}", words.entry(mapping, setting[len(mapping) + 1 :], first)
        elif setting == "config" or (dataclasses.is_dataclass(kind) and Path(first).is_file()):
            if setting == "config":
                CONFIG_FILES.set((*CONFIG_FILES.get(), first))
            first = _settings_of(first, kind, words, "" if setting == "config" else setting)
        elif kind is not None:
            rest = [] if is_list(kind) else rest
            first = words.option(name, kind, values)
        expanded += [f"{name}={first}", *rest]
    return expanded


def _with_names(
    arguments: Sequence[str], config_class: type, kinds: dict[str, Any]
) -> Sequence[str]:
    """Return the arguments with option names for the words of positional settings."""
    names = list(positional_names(config_class))
    if not names:
        return arguments
    options: list[str] = []
    free: list[str] = []
    takes, kind = 0.0, None
    for number, word in enumerate(arguments):
        if word == "--":
            free += arguments[number + 1 :]
            break
        if word.startswith("-") and not _NUMBER.fullmatch(word):
            options.append(word)
            alone = "=" in word or word in _ALONE
            kind = kinds.get(word.removeprefix("--"))
            takes = 0 if alone else _words_of(kind)
        elif takes >= 1 and not (kind is bool and _is_other_argument(word)):
            options.append(word)
            takes -= 1
        else:
            free.append(word)
    if "" in free:
        raise ConfigError("unexpected argument ''; expected a word with characters")
    for name in names:
        if is_list(kinds[name]) and free:  # takes all words that are left
            options.append(f"--{name}={json.dumps(free)}")
            free = []
        elif free:
            options.append(f"--{name}={free.pop(0)}")
    return [*free, *options]


def _is_other_argument(word: str) -> bool:
    """Return whether a word behind an option of a truth value is a path, not the value."""
    return word.lower() not in _TRUTH and not _NUMBER.fullmatch(word) and is_path(word)


_TRUTH = ("true", "false", "yes", "no")
_ALONE = ("-h", "--help", "--help-all", "--print_config")


def _words_of(kind: Any) -> float:
    """Return how many words an option takes at most; an unknown option counts as taking one."""
    return math.inf if kind is not None and is_list(kind) else 1


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

    Relative paths in the file are relative to its folder. Values of a hardware section that repeat
    its preset are left out, so that the resolved
    experiment.yaml of a run can be combined with another ``--hardware``.
    """
    content = read_plain_settings(path, config_class)
    for key, short in SHORT.items():
        if isinstance(content.get(key), str):
            content[key] = {short: content[key]}
    if getattr(config_class, "takes_files_of_other_commands", False):
        content = _own_part(content, config_class)
    _check_keys(content, config_class, path)
    if isinstance(hardware := content.get("hardware"), dict):
        preset = hardware.get("preset", Hardware.preset)
        of_preset = to_plain(PRESETS.get(known_name(str(preset), PRESETS), {}))
        content["hardware"] = {
            key: value
            for key, value in hardware.items()
            if key not in of_preset or value != of_preset[key]
        }
    content = words.shielded(content, config_class, section)
    return dump_yaml(content, on_one_line=True)


def _own_part(content: dict[str, Any], config_class: Any) -> dict[str, Any]:
    """Return settings without those of other commands; keys of no command stay for the check.

    Of a file of another command, only sections stay, because other keys of the same name can have
    another meaning there.
    """
    own = {name: kind for name, kind in _settings(config_class) if name in content}
    unknown = content.keys() - own.keys()
    if not unknown or not _commands_with(unknown):
        return content
    kept: Collection[str] = own.keys()
    if _commands_with(content.keys()):
        kept = {name for name, kind in own.items() if dataclasses.is_dataclass(kind)}
    return {name: value for name, value in content.items() if name in kept}


def _check_keys(content: dict[str, Any], config_class: Any, path: str) -> None:
    """Raise ConfigError for unknown keys; names the commands that have all keys of the file."""
    try:
        check_keys(content, config_class, path)
    except ConfigError as error:
        unknown = [str(key) for key in content if key not in _names_of(config_class)]
        others = _commands_with(content.keys()) if unknown else []
        if not others:
            raise
        raise ConfigError(
            f"{path}: settings of analogmed {' or '.join(others[:3])}, of which this command does "
            f"not have {', '.join(unknown[:5])}. Run that command, or remove them."
        ) from error


def _commands_with(keys: Collection[str]) -> list[str]:
    """Return the commands whose settings have all of these names."""
    found = []
    for name, command in COMMANDS.items():
        try:
            settings = _settings_class(command.settings)
        except ImportError:  # of an optional package; the message does without this command
            continue
        if _names_of(settings).issuperset(keys):
            found.append(name)
    return found


def _settings_class(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(f"analogmed.{module}"), name)


def _names_of(settings_class: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(settings_class)}


def _explain(message: str, parser: ArgumentParser, config_class: type) -> str:
    prefix = "unrecognized arguments: "
    if missing := _REQUIRED.search(message):
        metavars = positional_names(config_class)
        found = [metavars.get(name, f"--{name}") for name in missing[1].split(", ")]
        return f"missing {' and '.join(found)}; expected {parser.usage}"
    known = {name for action in parser._actions for name in action.option_strings}
    if nested := _NESTED.search(message):
        option, last = f"--{nested[1]}.{nested[2]}", f"--{nested[2]}"
        meant = last if last in known else option
        return f"unknown option {option}; {_nearest_option(meant, known, parser.prog)}"
    if choice := _CHOICE.search(message):
        return _unknown_choice(*choice.groups())
    if union := _UNION.search(message):
        return _no_alternative(*union.groups())
    if kind := _KIND.search(message):
        setting, name, value = kind.groups()
        return f"{setting}: expected {_KINDS.get(name, name)}, got {' '.join(value.split())}"
    if alone := _ALONE_OPTION.search(message):
        return f"{alone[1]}: expected one argument after it, got none"
    if not message.lower().startswith(prefix):
        message = re.sub(r"<class '(\w+)'>", r"\1", message.replace("Parser key ", "setting "))
        return " ".join(message.split())
    option = message[len(prefix) :].strip().partition(" ")[0].partition("=")[0]
    if not option.startswith("-"):
        return f"unexpected argument '{option}'; a setting is written --name value"
    section, _, name = option.removeprefix("--").rpartition(".")
    if f"--{section}.options" in known:
        return (
            f"unknown option {option}; {nearest(option, known)} Options of the {section} itself "
            f"are written --{section}.options.{name}"
        )
    return f"unknown option {option}; {_nearest_option(option, known, parser.prog)}"


def _nearest_option(option: str, known: Iterable[str], prog: str) -> str:
    """Return the end of a message: the nearest option, by its last part if no section is given."""
    typed = option.removeprefix("--")
    shallow_last = sorted(known, key=lambda name: -name.count("."))  # it takes the place of others
    names = {name if "." in typed else name.rpartition(".")[2]: name for name in shallow_last}
    names = {name.removeprefix("--"): whole for name, whole in names.items()}
    close = nearest_name(typed, names)
    return f"'{prog} --help-all' lists all" if close is None else f"did you mean '{names[close]}'?"


_REQUIRED = re.compile(r"the following arguments are required: (.+)")
_NESTED = re.compile(
    r"""Parser key "(.+?)":.*(?:Got|Given) value: NestedArg\(key='(.+?)', val=""", re.DOTALL
)
_CHOICE = re.compile(
    r"""Parser key "(.+?)":\s+Expected a typing\.Literal\[(.+?)]\. Got value: (.*)"""
)


_KIND = re.compile(
    r"""Parser key "(.+?)":\s+Expected a (?:<class ')?(\w+)(?:'>)?\. Got value: (.*)""", re.DOTALL
)
_ALONE_OPTION = re.compile(r"argument (--\S+): expected one argument")


_UNION = re.compile(
    r"""Parser key "(.+?)":\s+Does not validate against any of the Union(.*)Given value: (.*)""",
    re.DOTALL,
)


_KINDS = {"int": "a whole number", "float": "a number", "tuple": "a list", "bool": "true or false"}


def _no_alternative(setting: str, errors: str, value: str) -> str:
    """Return a message for a value that fits no member of a union type."""
    kinds = re.findall(r"- Expected an? (?:<class ')?(?:typing\.)?([\w\[\], .]+)", errors)
    plain = [kind.strip(" .") for kind in kinds if "NoneType" not in kind]
    names = [_KINDS.get(kind, kind.replace("Literal", "one of ")) for kind in plain]
    expected = " or ".join(dict.fromkeys(names))
    return f"{setting}: expected {expected or 'another value'}, got {value.strip()}"


def _unknown_choice(setting: str, choices: str, value: str) -> str:
    known = re.findall(r"'(.+?)'", choices)
    meant = nearest(value, known)
    every = f" ({', '.join(known)})" if meant.endswith("?") else ""
    return f"{setting}: '{value}' is not known; {meant}{every}"
