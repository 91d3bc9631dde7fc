"""Errors before the main function of a program runs.

A package that cannot be imported would otherwise end the program in a traceback.
"""

import sys
from types import TracebackType

from analogmed.analog.versions import do_not_fit
from analogmed.cli.exit_status import UNFORESEEN, explain_unforeseen


def install() -> None:
    """Let errors that reach the interpreter end in a sentence and an exit status."""
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
    """Return whether torch or aihwkit is missing, or an import inside one of them fails."""
    names = [error.name or ""]
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    return any(name.partition(".")[0] in ("torch", "aihwkit") for name in names)
