"""The command line: selects a command, parses its settings and runs it."""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analogmed.cli.commands import COMMANDS, NO_DEFAULT, find_command, list_commands
from analogmed.cli.exit_status import run_program
from analogmed.foundation.credentials import masked
from analogmed.foundation.process import keep_freed_memory
from analogmed.foundation.progress import announce

_HELP = ("-h", "--help", "--help-all")
_VERSION = "--version"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments start with.

    Args:
        arguments: words of the command line; ``sys.argv`` by default.

    Returns:
        Exit status, see :func:`analogmed.cli.exit_status.run_program`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    return run(_run, words)


def run(program: Callable[[list[str]], int | None], words: list[str]) -> int:
    """Run a program; print its warnings and errors as sentences on stderr.

    Returns:
        Exit status, see :func:`analogmed.cli.exit_status.run_program`.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_once()
        return run_program(program, words)


def run_command(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command by its first word.

    Args:
        name: first word of a key of ``COMMANDS``.
        arguments: words after this word; ``sys.argv`` by default.
    """
    return main([name, *(sys.argv[1:] if arguments is None else arguments)])


def _run(words: list[str]) -> int | None:
    if words[0] in _HELP:
        print(list_commands())
        return 0
    if words[0] == _VERSION:
        print(f"analogmed {version('analogmed')}")
        return 0
    if words[0] in NO_DEFAULT and words[1:2] and words[1] in _HELP:
        print(list_commands(words[0]))
        return 0
    name, rest = find_command(words)
    command = COMMANDS[name]
    if not {"", here := str(Path.cwd())} & {*sys.path}:
        sys.path.append(here)  # for modules of factories, as with python -m
    # Imported here so that an error while importing becomes an exit status too.
    from analogmed.cli.examples import EXAMPLES
    from analogmed.cli.parse import parse

    settings_class = load(f"analogmed.{command.settings}")
    settings = parse(
        settings_class,
        rest,
        prog=f"analogmed {name}",
        epilog=EXAMPLES[name],
        frequent=command.frequent,
    )
    import_module("analogmed.cli.names").check_names(settings)
    if command.simulates:
        announce("loading packages")
        keep_freed_memory()
        import_module("analogmed.analog.versions").check_versions()
    status: int | None = load(f"analogmed.cli.programs.{command.run}")(settings)
    return status


def load(path: str) -> Any:
    """Return the object that ``module:name`` denotes."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _show_once() -> Callable[..., None]:
    """Return a function that prints each warning once, also if several places raise it."""
    shown = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = masked(f"warning: {message}")
        if text not in shown:
            shown.add(text)
            print(text, file=sys.stderr)

    return show
