"""Exit status of a program: errors that a user can act on become one sentence, no traceback."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable

from analogmed.errors import AnalogmedError, ConfigError
from analogmed.foundation.credentials import masked

UNFORESEEN = 70
"""Exit status of an error that the program does not handle (``EX_SOFTWARE``)."""


def told(program: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Run a program and print its error, if it ends with one, as a sentence.

    Returns:
        Exit status: 0; 1 for an error of the data or the computation; 2 for a setting; 70 for an
        error that nothing has foreseen, whose traceback is then in a log file; 130 for an
        interruption.
    """
    try:
        program(arguments)
    except ConfigError as error:
        _say(error)
        return 2
    except (AnalogmedError, OSError) as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        print(explain_unforeseen(error), file=sys.stderr)
        return UNFORESEEN
    return 0


def explain_unforeseen(error: BaseException) -> str:
    """Write the traceback of an error into a log file and return a sentence that names the file.

    Where no file can be written, the traceback follows the sentence.
    """
    trace = masked("".join(traceback.format_exception(error)))
    summary = masked(f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": "))
    sentence = f"error: the program did not expect this error: {summary[:_LONGEST]}"
    try:
        handle, path = tempfile.mkstemp(prefix="analogmed-", suffix=".log", text=True)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(masked(f"command: {sys.argv}\n\n{trace}"))
    except OSError:
        return f"{sentence}. Report it with this traceback:\n{trace}"
    return f"{sentence}. Its traceback is in {path}. Report it with this file."


def _say(error: BaseException) -> None:
    print(masked(f"error: {error}"), file=sys.stderr)


_LONGEST = 300
