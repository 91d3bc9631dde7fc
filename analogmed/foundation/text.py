"""Text for people: nearest names in error messages, and short views of large objects."""

import difflib
import html
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
_MOST_NAMES = 30


def command_line(*words: object) -> str:
    """Return a command of analogmed as it is typed in a shell.

    Example:
        >>> command_line("report", "runs/my run")
        "analogmed report 'runs/my run'"
    """
    return shlex.join(["analogmed", *map(str, words)])


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the most similar name in any case, or all valid names.

    Args:
        name: name that the user typed.
        known: valid names.

    Returns:
        ``"did you mean 'x'?"`` if a name is similar, else ``"choose from: a, b, c"``; of many names
        those with the fewest dots, and the number of the others.
    """
    known = sorted(known)
    close = nearest_name(name, known)
    if close is not None:
        return f"did you mean '{close}'?"
    if len(known) > _MOST_NAMES:
        known.sort(key=lambda each: each.count("."))
    return f"choose from: {shortened(tuple(known), _MOST_NAMES)}"


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the most similar name in any case; ``None`` if no name is similar.

    Example:
        >>> nearest_name("Dise", ["dice", "nsd"]), nearest_name("x", ["dice"])
        ('dice', None)
    """
    folded = {each.casefold(): each for each in sorted(known, reverse=True)}
    close = difflib.get_close_matches(str(name).casefold(), sorted(folded), n=1)
    return folded[close[0]] if close else None


def known_name(name: T, known: Iterable[str]) -> T:
    """Return the known name that a text spells, or else the text itself.

    Case, hyphens, underscores and blanks do not matter, and ``+`` is ``p``. A text that spells
    several names is none of them, unless it is one exactly.

    Args:
        name: name that the user typed; other values than texts are returned unchanged.
        known: valid names; others than texts are ignored.

    Example:
        >>> known_name("MIT-BIH", ["lgg", "mitbih"]), known_name("U-Net++", ["unet", "unetpp"])
        ('mitbih', 'unetpp')
    """
    texts = {each: None for each in known if isinstance(each, str)}
    if not isinstance(name, str) or name in texts:
        return name
    found = [each for each in texts if folded(each) == folded(name) != ""]
    return found[0] if len(found) == 1 else name  # type: ignore[return-value]  # a text, as name is


def folded(name: str) -> str:
    """Return a name without what does not distinguish names: case, hyphens, underscores, blanks."""
    return re.sub(r"[-_\s]", "", name.casefold()).replace("+", "p")


class Rendered(ABC):
    """Base class of objects that a few facts describe, as text and in a notebook."""

    @abstractmethod
    def facts(self) -> Mapping[str, object]:
        """Return name and value of what describes the object, the most important first."""

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}: {value}" for name, value in self.facts().items())
        return f"<{type(self).__name__}: {facts}>"

    def _repr_html_(self) -> str:
        """Return a table of the facts for a notebook."""
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
            for name, value in self.facts().items()
        )
        title = html.escape(type(self).__name__)
        return f"<table><caption>{title}</caption><tbody>{rows}</tbody></table>"


def shortened(names: Mapping[str, str] | tuple[str, ...], most: int = 6) -> str:
    """Return names, with their reasons if they have some, and the number of those left out.

    Example:
        >>> shortened(("a", "b", "c"), 2), shortened({"up": "transposed"}), shortened(())
        ('a, b and 1 more', 'up (transposed)', 'none')
    """
    if isinstance(names, Mapping):
        texts = [f"{name} ({reason})" if reason else name for name, reason in names.items()]
    else:
        texts = list(names)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more or "none"
