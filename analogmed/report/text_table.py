"""A table of text: one layout, written for a terminal, Markdown, LaTeX and the HTML page."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import takewhile
from typing import Any, Literal, TypeAlias

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analogmed.foundation.errors import DataError
from analogmed.report.names import model_name, training_name
from analogmed.report.text import EN_DASH, UNKNOWN, format_fixed, unbroken

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    UNKNOWN: "--", "\u00b1": r"$\pm$", "\u2212": "$-$", "\u2264": r"$\leq$", "\u2265": r"$\geq$",
}  # fmt: skip
"""Characters with their LaTeX representation."""
_ELLIPSIS = "\u2026"
_BLANK = "\ue000"
"""Character in place of a blank at which no line ends; rich ends lines at no-break spaces, too."""


@dataclass(frozen=True)
class Cell:
    """Text of a cell with a second part, such as the interval of an estimate.

    Attributes:
        text: first part.
        second: second part: in a second line, or after the first one.
        joined: how the second part follows the first one in the same line.
    """

    text: str
    second: str = ""
    joined: str = " ({})"

    def __str__(self) -> str:
        """Return both parts in one line; an unknown second part is left out."""
        known = self.second not in ("", UNKNOWN)
        return self.text + self.joined.format(self.second) if known else self.text


Content: TypeAlias = "Cell | object"
"""A cell, or a value whose text is the cell."""


def estimate_cell(
    value: float,
    low: float,
    high: float,
    write: Callable[[float], str] = format_fixed,
    *,
    dash: bool = False,
    unknown: str = "",
) -> Cell:
    """Return an estimate with its interval.

    Args:
        value: estimate.
        low, high: limits of its interval; NaN if there is none.
        write: format of the three numbers.
        dash: whether a dash separates limits that are not negative, where ``to`` is too wide.
        unknown: second part of an estimate without an interval.

    Example:
        >>> str(estimate_cell(0.9, -0.05, 0.95)), str(estimate_cell(0.9, 0.85, float("nan")))
        ('0.900 (-0.050 to 0.950)', '0.900')
    """
    if pd.isna(low) or pd.isna(high):
        return Cell(write(value), unknown)
    separator = EN_DASH if dash and low >= 0 else " to "
    return Cell(write(value), f"{write(low)}{separator}{write(high)}")


def named_estimate(row: Mapping[str, Any], name: str, **layout: Any) -> Cell:
    """Return the estimate of a row whose limits are in the columns ``NAME_low`` and ``NAME_high``.

    Args:
        row: cells by column name.
        name: column of the estimate.
        **layout: further arguments of :func:`estimate_cell`.
    """
    return estimate_cell(row[name], row[f"{name}_low"], row[f"{name}_high"], **layout)


def network_cell(model: str, training: str) -> Cell:
    """Return the display name of a network with its training.

    Example:
        >>> str(network_cell("unet", "hwa"))
        'U-Net, hardware-aware'
    """
    return Cell(model_name(model), training_name(training), ", {}")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: head; the terminal keeps its line breaks.
        cell: content of the column in a row.
        is_text: whether the column contains text, aligned to the left, instead of numbers.
        wrap: how the terminal breaks long cells: between words, anywhere, or not at all.
        least_width: smallest width in the terminal, in characters.
    """

    head: str
    cell: Callable[[Any], Content]
    is_text: bool = False
    wrap: Literal["words", "anywhere", "no"] = "words"
    least_width: int | None = None

    @property
    def title(self) -> str:
        """The head in one line."""
        return " ".join(self.head.split())


@dataclass(frozen=True)
class TextTable:
    """A table of text; :meth:`of` lays out rows by columns.

    Attributes:
        title: title of the table; empty for none.
        columns: columns from left to right.
        rows: cells of each row; numbers are already formatted.
        caption: information that is necessary to interpret the numbers.
        stacked: whether the terminal writes the second part of a cell below the first one.
        spaced: whether the terminal leaves a blank on both sides of a column.
        leading: blank lines between the rows in the terminal.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    stacked: bool = False
    spaced: bool = True
    leading: int = 0

    @classmethod
    def of(
        cls, title: str, columns: Iterable[Column], rows: Iterable[Any], **layout: Any
    ) -> "TextTable":
        """Return the table of some rows.

        Args:
            title: title of the table.
            columns: columns from left to right.
            rows: any objects that the columns make cells of.
            **layout: caption and layout in the terminal.
        """
        columns = tuple(columns)
        cells = tuple(tuple(_as_cell(column.cell(row)) for column in columns) for row in rows)
        return cls(title, columns, cells, **layout)

    @property
    def heads(self) -> tuple[str, ...]:
        """One head per column, in one line."""
        return tuple(column.title for column in self.columns)

    @property
    def text_columns(self) -> int:
        """Number of columns with text before the first one with numbers."""
        return len(list(takewhile(lambda column: column.is_text, self.columns)))

    def terminal(self, width: int) -> str:
        """Return the table as plain text without terminal codes; see :func:`terminal`."""
        return terminal(self, width=width)

    @property
    def markdown(self) -> str:
        """The table as a Markdown pipe table, after its title and before its caption."""
        title = f"**{_markdown_line(self.title)}**\n\n" if self.title else ""
        caption = f"\n\n{markdown_text(self.caption)}" if self.caption else ""
        escaped = [[_markdown_line(str(cell)) for cell in row] for row in self.rows]
        heads = list(map(_markdown_line, self.heads))
        return f"{title}{pipe_table(heads, escaped, self.text_columns)}{caption}\n"

    @property
    def latex(self) -> str:
        r"""The table as a LaTeX ``table`` with rules of the package ``booktabs``."""
        columns = "".join("l" if column.is_text else "r" for column in self.columns)
        head, *body = (
            " & ".join(latex_text(str(cell)) for cell in row) + r" \\"
            for row in (self.heads, *self.rows)
        )
        caption = latex_text(
            f"{self.title}. {self.caption}".strip() if self.title else self.caption
        )
        lines = [
            r"\begin{table}",
            r"  \centering\small",
            rf"  \caption{{{caption}}}",
            rf"  \begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            f"    {head}",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def terminal(*parts: TextTable | str, width: int) -> str:
    """Return tables and texts as plain text, identical in a terminal, a file and a notebook.

    Args:
        *parts: tables and texts, in order.
        width: number of columns; longer texts are wrapped.

    Returns:
        Text without terminal codes and trailing blanks, which ends in a newline.
    """
    text = StringIO()
    console = Console(
        file=text, width=width, force_terminal=False, force_jupyter=False, color_system=None
    )
    for part in parts:
        if isinstance(part, str):
            console.print(_text(part))
            continue
        if part.title:
            console.print(_text(part.title))
        console.print(_fitting(part, console))
        if part.caption:
            console.print(_text(part.caption))
    written = text.getvalue().replace(_BLANK, " ")
    return "\n".join(line.rstrip() for line in written.splitlines()).rstrip() + "\n"


def markdown(*parts: TextTable | str) -> str:
    """Return tables and texts as Markdown, which ends in a newline."""
    found = [markdown_text(p) if isinstance(p, str) else p.markdown.strip() for p in parts]
    return "\n\n".join(found) + "\n"


def _text(text: str) -> Text:
    """Return text whose lines do not end inside an interval."""
    return Text(unbroken(text, _BLANK))


def _fitting(table: TextTable, console: Console) -> Table:
    """Return a table whose intervals are whole: in a second line if the width requires it."""
    grid = _grid(table)
    lines = console.render_lines(grid)
    is_cut = any(_ELLIPSIS in segment.text for line in lines for segment in line)
    return _grid(table, two_lines=True) if is_cut else grid


def _grid(table: TextTable, *, two_lines: bool = False) -> Table:
    """Return the cells of a table as rich lays them out.

    Args:
        table: the table.
        two_lines: whether intervals are below their estimates, in columns that are not wrapped.
    """
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1) if table.spaced else 0, leading=table.leading)
    for column in table.columns:
        grid.add_column(
            _text(column.head),
            justify="left" if column.is_text else "right",
            overflow="fold" if column.wrap == "anywhere" else "ellipsis",
            no_wrap=column.wrap == "no" or (two_lines and not column.is_text),
            min_width=column.least_width,
        )
    for row in table.rows:
        folds = (two_lines and not column.is_text for column in table.columns)
        texts = (_in_lines(cell) if table.stacked else str(cell) for cell in row)
        grid.add_row(
            *(
                _text(text.replace(" (", "\n(") if fold else text)
                for text, fold in zip(texts, folds, strict=True)
            )
        )
    return grid


def pipe_table(heads: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table of texts that are already escaped, without a last newline.

    Args:
        heads: one head per column.
        rows: cells.
        text_columns: number of columns with text, counted from the left; numbers in the others are
            aligned to the right.
    """
    rule = ["---"] * text_columns + ["---:"] * (len(heads) - text_columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def replace_between(text: str, name: str, content: str) -> str:
    """Return the text of a page with new content between the markers of its name.

    The markers are ``<!-- NAME -->`` and ``<!-- end of NAME -->``.

    Raises:
        DataError: the page lacks a marker.
    """
    start, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    _, end, after = rest.partition(stop)
    if not (found and end):
        raise DataError(f"page: expected the markers '{start}' and '{stop}', got none. Add them.")
    return f"{before}{start}\n{content}\n{stop}{after}"


def latex_text(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def markdown_text(text: str) -> str:
    """Return text of several lines with Markdown and HTML escaped."""
    return "  \n".join(map(_markdown_line, text.splitlines()))


def _markdown_line(text: str) -> str:
    return re.sub(r"([\\|<>*_`#\[\]])", r"\\\1", " ".join(text.split()))


def _as_cell(content: Content) -> Cell:
    return content if isinstance(content, Cell) else Cell(str(content))


def _in_lines(cell: Cell) -> str:
    return f"{cell.text}\n{cell.second}" if cell.second else cell.text
