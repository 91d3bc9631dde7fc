"""A table that renders as HTML (by the page's template), Markdown and LaTeX (booktabs)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

EN_DASH = "\u2013"
UNKNOWN = EN_DASH
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    UNKNOWN: "--", "\u00b1": r"$\pm$", "\u2212": "$-$", "\u2264": r"$\leq$", "\u2265": r"$\geq$",
}  # fmt: skip
"""Characters with their LaTeX representation."""


@dataclass(frozen=True)
class PageTable:
    """A table of text.

    Attributes:
        title: title of the table.
        heads: one head per column.
        rows: cells; numbers are already formatted.
        text_columns: number of columns with text, counted from the left; the others contain
            numbers.
        caption: information that is necessary to interpret the numbers.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    caption: str = ""

    @property
    def markdown(self) -> str:
        """The table as a Markdown pipe table."""
        rule = ["---"] * self.text_columns + ["---:"] * (len(self.heads) - self.text_columns)
        lines = [[_markdown(cell) for cell in row] for row in (self.heads, *self.rows)]
        lines.insert(1, rule)
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        caption = f"\n\n{_markdown(self.caption)}" if self.caption else ""
        return f"**{_markdown(self.title)}**\n\n{table}{caption}\n"

    @property
    def latex(self) -> str:
        r"""The table as a LaTeX ``table`` with rules of the package ``booktabs``."""
        columns = "l" * self.text_columns + "r" * (len(self.heads) - self.text_columns)
        head, *body = (
            " & ".join(map(latex_text, row)) + r" \\" for row in (self.heads, *self.rows)
        )
        caption = latex_text(f"{self.title}. {self.caption}".strip())
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


def latex_text(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def markdown_text(text: str) -> str:
    """Return text of several lines with Markdown and HTML escaped."""
    return "\n".join(_markdown(line) for line in text.splitlines())


def number(value: float, digits: int = 3) -> str:
    """Return a number with fixed decimals; small ones as powers of ten, NaN as a dash.

    Example:
        >>> number(0.98765), number(-0.0001), number(2.5e-5), number(float("nan"))
        ('0.988', '-1.0e-04', '2.5e-05', '\u2013')
    """
    if pd.isna(value):
        return UNKNOWN
    small = value != 0 and abs(value) < 0.5 * 10**-digits
    return f"{value:.1e}" if small else f"{value:.{digits}f}"


def with_interval(
    value: float, low: float, high: float, digits: int = 3, *, dash: bool = True
) -> str:
    """Return an estimate with its interval in brackets, if there is one.

    Bounds of 0 and more are separated by a dash, or by "to" if ``dash`` is false; others by "to".

    Example:
        >>> with_interval(0.9, -0.05, 0.95, 2), with_interval(0.9, float("nan"), float("nan"), 2)
        ('0.90 (-0.05 to 0.95)', '0.90')
    """
    text = fixed(value, digits)
    if pd.isna(low) or pd.isna(high):
        return text
    separator = EN_DASH if dash and low >= 0 else " to "
    return f"{text} ({fixed(low, digits)}{separator}{fixed(high, digits)})"


def in_interval(low: float, high: float, level: float, digits: int = 3) -> str:
    """Return a confidence interval as it follows an estimate in a sentence.

    Example:
        >>> in_interval(0.1, 0.2, 0.95, 2)
        ' (95 % interval 0.10 to 0.20)'
    """
    if pd.isna(low) or pd.isna(high):
        return " (no interval: too few patients or chips)"
    return f" ({100 * level:.3g} % interval {fixed(low, digits)} to {fixed(high, digits)})"


def size_interval(low: float, high: float, level: float) -> str:
    """Return the interval of the size of a difference whose interval excludes 0."""
    return in_interval(min(abs(low), abs(high)), max(abs(low), abs(high)), level)


def fixed(value: float, digits: int = 3) -> str:
    """Return a number with fixed decimals, without a minus sign before zero."""
    if pd.isna(value):
        return UNKNOWN
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text


def p_text(value: float) -> str:
    """Return a p-value as text.

    Example:
        >>> p_text(0.0313), p_text(0.0001), p_text(float("nan"))
        ('0.031', '< 0.001', '–')
    """
    if pd.isna(value):
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equation(value: float) -> str:
    """Return a p-value as it is written in a sentence.

    Example:
        >>> p_equation(0.0313), p_equation(0.0001)
        ('p = 0.031', 'p < 0.001')
    """
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def cells(rows: Sequence[Sequence[object]]) -> tuple[tuple[str, ...], ...]:
    """Return rows of any values as rows of text."""
    return tuple(tuple(str(cell) for cell in row) for row in rows)


def _markdown(text: str) -> str:
    return re.sub(r"([\\|<>*_`#\[\]])", r"\\\1", " ".join(text.split()))
