"""Nearest names for error messages."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """End of an error message: the likeliest meant name, or all known ones.

    Args:
        name: what the user wrote.
        known: what would have been accepted.

    Returns:
        ``"did you mean 'x'?"`` where one name is close, else ``"choose from: a, b, c"``.
    """
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"choose from: {', '.join(known)}"
