"""Handling of errors that occur before the main function of a program runs.

Without it, a package that cannot be imported ends the program with a traceback.
"""

import sys
from types import TracebackType

from analogmed.analog.versions import do_not_fit
from analogmed.cli.exit_status import UNFORESEEN, explain_unforeseen


def install() -> None:
    """Print errors that reach the interpreter as a sentence and set the exit status."""
    sys.excepthook = _end


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    if isinstance(error, ImportError) and _is_about(error, trace):
        print(f"error: {do_not_fit(error)}", file=sys.stderr)
        sys.exit(2)
    print(explain_unforeseen(error), file=sys.stderr)
    sys.exit(UNFORESEEN)


def _is_about(error: ImportError, trace: TracebackType | None) -> bool:
    """Return whether torch or aihwkit is missing or one of their imports fails."""
    names = [error.name or ""]
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    return any(name.partition(".")[0] in ("torch", "aihwkit") for name in names)
