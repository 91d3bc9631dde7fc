"""Tables as plain text, identical in a terminal, a file and a notebook."""

from io import StringIO
from typing import Any

import pandas as pd
from rich.console import Console, RenderableType


def printed(*parts: RenderableType, width: int) -> str:
    """Return rich's output of several items, without terminal codes and trailing blanks.

    Args:
        *parts: tables and texts, in order.
        width: number of columns.
    """
    text = StringIO()
    console = Console(
        file=text, width=width, force_terminal=False, force_jupyter=False, color_system=None
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).rstrip() + "\n"


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dictionaries by column name."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
