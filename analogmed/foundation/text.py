"""Nearest names for error messages."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the most similar name in any case, or all valid names.

    Args:
        name: name that the user typed.
        known: valid names.

    Returns:
        ``"did you mean 'x'?"`` if a name is similar, else ``"choose from: a, b, c"``.
    """
    known = sorted(known)
    folded = {each.casefold(): each for each in reversed(known)}
    close = difflib.get_close_matches(str(name).casefold(), sorted(folded), n=1)
    return f"did you mean '{folded[close[0]]}'?" if close else f"choose from: {', '.join(known)}"
