"""Errors of a program before its main function runs: import this module first in a program.

A package that cannot be imported would otherwise end the program in a traceback.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType

from analogmed.exit_status import UNFORESEEN, explain_unforeseen

HINT = "install with the versions of constraints.txt (torch 2.13.0, aihwkit 1.1.0 or 1.2.0)"


def install() -> None:
    """Let errors that reach the interpreter end in a sentence and an exit status."""
    sys.excepthook = _end


def do_not_fit(error: ImportError) -> str:
    """Return a sentence about torch and aihwkit where one of them cannot be imported."""
    names = [f"{package} {_version(package)}" for package in ("torch", "aihwkit")]
    return f"{' and '.join(names)} do not fit each other ({error}); {HINT}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


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


def _is_program() -> bool:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.partition(".")[0] == "analogmed"


if _is_program():
    install()
