"""The command line: selects a command, runs its program and returns its exit status."""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from analogmed.cli.commands import COMMANDS, find_command
from analogmed.cli.exit_status import run_program
from analogmed.cli.start import install
from analogmed.foundation.credentials import masked
from analogmed.foundation.process import keep_freed_memory
from analogmed.foundation.text import nearest

_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments start with.

    Args:
        arguments: words of the command line; ``sys.argv`` by default.

    Returns:
        exit status: 0, 1 for an error in the data or the computation, 2 for an invalid setting.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if words[0] in _HELP:
        print("usage: analogmed VERB [options]\n")
        print("\n".join(f"  {name:13}{each.summary}" for name, each in COMMANDS.items()))
        print("\nanalogmed VERB --help lists the options of each command.")
        return 0
    if words[0] not in COMMANDS:
        print(f"error: unknown verb '{words[0]}'; {nearest(words[0], COMMANDS)}", file=sys.stderr)
        return 2
    install()
    command, rest = find_command(words)
    module, _, function = command.program.partition(":")
    program = getattr(import_module(module), function)
    if not command.simulates:
        return run_program(program, rest)
    return run(program if set(_HELP).intersection(rest) else _with_versions(program), rest)


def run(program: Callable[[list[str]], int | None], arguments: list[str]) -> int:
    """Run a program that simulates; print its warnings and errors as sentences on stderr.

    Returns:
        exit status: 0, 1 for an error in the data or the computation, 2 for an invalid setting.
    """
    keep_freed_memory()
    warnings.showwarning = _show_warning
    return run_program(program, arguments)


def _with_versions(
    program: Callable[[list[str]], int | None],
) -> Callable[[list[str]], int | None]:
    def checked(arguments: list[str]) -> int | None:
        import_module("analogmed.analog.versions").check_versions()
        return program(arguments)

    return checked


def run_command(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command by name.

    Args:
        name: key of ``COMMANDS``.
        arguments: words after the command name; ``sys.argv`` by default.
    """
    return main([name, *(sys.argv[1:] if arguments is None else arguments)])


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(masked(f"warning: {message}"), file=sys.stderr)
