"""The command line: a configuration class, a YAML file, and `--a.b value` on top of it."""

import dataclasses
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import TypeVar

from jsonargparse import ActionConfigFile, ArgumentParser

from analogmed.allocator import keep_freed_memory
from analogmed.analog import Hardware
from analogmed.analog.versions import check_versions
from analogmed.config import check_keys, read_yaml
from analogmed.errors import AnalogmedError, ConfigError
from analogmed.suggest import nearest

T = TypeVar("T")

_SHORT = {"task": "name", "model": "name", "hardware": "preset"}
"""``--task lgg`` stands for ``--task.name lgg``."""


def parse(config_class: type[T], arguments: Sequence[str], *, prog: str, epilog: str = "") -> T:
    """Build a configuration from the command line.

    Args:
        config_class: a frozen dataclass of :mod:`analogmed.config`.
        arguments: without the program's name.
        prog: the program's name in messages.
        epilog: examples under ``--help``.

    Raises:
        ConfigError: an unknown or malformed option or key; names the nearest known one.
    """
    arguments = _expand(arguments)
    parser = _parser(config_class, prog, epilog)
    if path := _given(arguments, "--config"):
        check_keys(read_yaml(path), config_class, path)
    try:
        parsed = parser.instantiate(parser.parse_args(arguments))
    except ArgumentError as error:
        raise ConfigError(_explain(str(error), parser)) from error
    names = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    return config_class(**{name: parsed[name] for name in names})


def run(main: Callable[[list[str]], None], arguments: Sequence[str] | None = None) -> int:
    """Run a program: errors that a user can act on are told in a sentence, without a traceback.

    Returns:
        exit status: 0, 1 for an error of the data or the computation, 2 for a setting.
    """
    keep_freed_memory()
    try:
        check_versions()
        main(list(sys.argv[1:] if arguments is None else arguments))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except AnalogmedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _parser(config_class: type, prog: str, epilog: str) -> ArgumentParser:
    parser = ArgumentParser(prog=prog, exit_on_error=False, epilog=epilog)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of these settings")
    parser.add_class_arguments(config_class, None)
    if "hardware" in {field.name for field in dataclasses.fields(config_class)}:
        arguments = [field.name for field in dataclasses.fields(Hardware)]
        parser.set_defaults({f"hardware.{name}": None for name in arguments if name != "preset"})
    return parser


def _expand(arguments: Sequence[str]) -> list[str]:
    """Write the short options out."""
    expanded: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name[2:] in _SHORT:
            name = f"{name}.{_SHORT[name[2:]]}"
        expanded.append(name + equals + value)
    return expanded


def _given(arguments: Sequence[str], option: str) -> str | None:
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            return value if equals else next(iter(arguments[index + 1 :]), None)
    return None


def _explain(message: str, parser: ArgumentParser) -> str:
    prefix = "unrecognized arguments: "
    if message.lower().startswith(prefix):
        option = message[len(prefix) :].split()[0].partition("=")[0]
        known = [name for action in parser._actions for name in action.option_strings]
        return f"unknown option {option}; {nearest(option, known)}"
    return message.replace("Parser key ", "setting ")
