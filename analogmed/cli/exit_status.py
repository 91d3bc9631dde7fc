"""Exit status of a program; expected errors are printed as one sentence without a traceback."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from types import TracebackType

from analogmed.foundation.credentials import masked
from analogmed.foundation.errors import AnalogmedError, ConfigError

UNFORESEEN = 70
"""Exit status of an error that the program does not handle (``EX_SOFTWARE``)."""


def run_program(program: Callable[[list[str]], int | None], arguments: list[str]) -> int:
    """Run a program and print an error that ends it as one sentence.

    Returns:
        Exit status: 0 or the status returned by the program; 1 for an error in the data or the
            computation; 2 for an invalid setting, or if torch or aihwkit cannot be imported; 70 for
            an unexpected error, whose traceback is written to a log file; 130 for an interruption.
    """
    try:
        return program(arguments) or 0
    except ConfigError as error:
        _say(error)
        return 2
    except (AnalogmedError, OSError) as error:
        if not (isinstance(error, BrokenPipeError) and _reader_has_ended()):
            _say(error)
        return 1
    except KeyboardInterrupt as interruption:
        print(masked(str(interruption)) or "stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, ImportError) and _is_about_torch(error, error.__traceback__):
            from analogmed.analog.versions import do_not_fit  # reads metadata of packages

            print(f"error: {do_not_fit(error)}", file=sys.stderr)
            return 2
        print(explain_unforeseen(error), file=sys.stderr)
        return UNFORESEEN


def explain_unforeseen(error: BaseException) -> str:
    """Log the traceback of an unexpected error and return a sentence about the error."""
    summary = masked(f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": "))
    return (
        f"error: the program did not expect this error: {summary[:_LONGEST]}. Report it with its "
        f"traceback{log_traceback(error)}"
    )


def log_traceback(error: BaseException) -> str:
    """Write the traceback of an error, with its causes, to a log file.

    Returns:
        End of a sentence about the traceback: ``, which is in PATH.``, or the traceback itself if
            no file can be written.
    """
    trace = masked("".join(traceback.format_exception(error)))
    try:
        handle, path = tempfile.mkstemp(prefix="analogmed-", suffix=".log", text=True)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(masked(f"command: {sys.argv}\n\n{trace}"))
    except OSError:
        return f":\n{trace}"
    return f", which is in {path}."


def _is_about_torch(error: ImportError, trace: TracebackType | None) -> bool:
    """Return whether torch or aihwkit is missing or one of their imports fails."""
    names = [error.name or ""]
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    return any(name.partition(".")[0] in ("torch", "aihwkit") for name in names)


def _reader_has_ended() -> bool:
    """Return whether stdout is a closed pipe, as below ``head``; what is left is not written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _say(error: BaseException) -> None:
    print(masked(f"error: {error}"), file=sys.stderr)


_LONGEST = 300
