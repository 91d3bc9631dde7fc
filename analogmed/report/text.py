"""Numbers as text: one format for each kind of number in tables and sentences."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import TIME_NAMES, time_label

EN_DASH = "\u2013"
UNKNOWN = EN_DASH
"""Text of a missing value."""
SAMPLE_COLUMNS = ("n_patients", "n_chips", "level")
"""Columns of a table that state its sample sizes and the level of its intervals."""


def format_fixed(value: float, digits: int = 3) -> str:
    """Return a number with fixed decimals, without a minus sign before zero.

    Example:
        >>> format_fixed(0.98765), format_fixed(-0.0001), format_fixed(float("nan"))
        ('0.988', '0.000', '\u2013')
    """
    if pd.isna(value):
        return UNKNOWN
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text


def format_signed(value: float, digits: int = 3) -> str:
    """Return a number with fixed decimals and its sign.

    Example:
        >>> format_signed(0.25), format_signed(-0.25), format_signed(float("nan"))
        ('+0.250', '-0.250', '\u2013')
    """
    return UNKNOWN if pd.isna(value) else f"{value:+.{digits}f}"


def format_number(value: float, digits: int = 3) -> str:
    """Return a number with fixed decimals; small ones as powers of ten, NaN as a dash.

    Example:
        >>> format_number(0.98765), format_number(-0.0001), format_number(2.5e-5)
        ('0.988', '-1.0e-04', '2.5e-05')
    """
    if pd.isna(value):
        return UNKNOWN
    small = value != 0 and abs(value) < 0.5 * 10**-digits
    return f"{value:.1e}" if small else f"{value:.{digits}f}"


def format_quantity(value: Any) -> str:
    """Return a count or a measured quantity; texts stay as they are.

    Integers and numbers from 10,000 have no decimals, others four significant digits.

    Example:
        >>> format_quantity(7_763_041), format_quantity(55.0651), format_quantity(21_800.42)
        ('7,763,041', '55.07', '21,800')
    """
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return UNKNOWN
    number = float(value)
    return f"{number:,.0f}" if number.is_integer() or number >= 1e4 else f"{number:,.4g}"


def format_share(value: float, digits: int = 1) -> str:
    """Return a share in per cent.

    Example:
        >>> format_share(0.7329), format_share(0.7329, 2)
        ('73.3%', '73.29%')
    """
    return UNKNOWN if pd.isna(value) else f"{value:.{digits}%}"


def format_p(value: float) -> str:
    """Return a p-value.

    Example:
        >>> format_p(0.0313), format_p(0.0001), format_p(float("nan"))
        ('0.031', '< 0.001', '\u2013')
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
    text = format_p(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def age(time_s: float, names: Mapping[float, str] = TIME_NAMES) -> str:
    """Return the time since programming in words; see :func:`time_label` for the names.

    Example:
        >>> age(86_400.0), age(0.0)
        ('1 day after programming', 'right after programming')
    """
    return f"{time_label(time_s, names) if time_s else 'right'} after programming"


def count_range(values: Iterable[float], noun: str) -> str:
    """Return a count or a range of counts, such as ``"12 patients"``; NaN is left out.

    Example:
        >>> count_range([5, 5], "chip"), count_range([1], "chip"), count_range([9, 12], "patient")
        ('5 chips', '1 chip', '9 to 12 patients')
    """
    counts = [int(value) for value in values if not pd.isna(value)]
    if not counts:
        return f"{UNKNOWN} {noun}s"
    low, high = min(counts), max(counts)
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{number} {noun}" if high == 1 else f"{number} {noun}s"


def sample_sizes(rows: pd.DataFrame, joined: str = ", ") -> str:
    """Return the numbers of patients and chips of the rows of a table.

    Example:
        >>> sample_sizes(pd.DataFrame({"n_patients": [7, 7], "n_chips": [5, 1]}), " and ")
        '7 patients and 1 to 5 chips'
    """
    return joined.join((patients_of(rows), count_range(rows["n_chips"], "chip")))


def patients_of(rows: pd.DataFrame) -> str:
    """Return the number of patients of the rows of a table.

    Example:
        >>> patients_of(pd.DataFrame({"n_patients": [1]}))
        '1 patient'
    """
    return count_range(rows["n_patients"], "patient")


def format_level(level: float) -> str:
    """Return a confidence level in per cent.

    Example:
        >>> format_level(0.95)
        '95 %'
    """
    return f"{100 * float(level):.3g} %"


def level_of(rows: pd.DataFrame) -> str:
    """Return the confidence level of the intervals of a table."""
    return format_level(rows["level"].iloc[0])


def in_interval(low: float, high: float, level: float, digits: int = 3) -> str:
    """Return a confidence interval as it follows an estimate in a sentence.

    Example:
        >>> in_interval(0.1, 0.2, 0.95, 2)
        ' (95 % interval 0.10 to 0.20)'
    """
    if pd.isna(low) or pd.isna(high):
        return " (no interval: too few patients or chips)"
    ends = f"{format_fixed(low, digits)} to {format_fixed(high, digits)}"
    return f" ({format_level(level)} interval {ends})"


def size_interval(low: float, high: float, level: float) -> str:
    """Return the interval of the size of a difference whose interval excludes 0."""
    return in_interval(min(abs(low), abs(high)), max(abs(low), abs(high)), level)


def unbroken(text: str, blank: str = "\u00a0") -> str:
    """Return text with another character for blanks inside numbers and intervals.

    Example:
        >>> unbroken("-0.1 (95 % interval -0.3 to 0.1)", "_")
        '-0.1 (95_% interval -0.3_to_0.1)'
    """
    return _INSIDE.sub(blank, text)


def in_lines(text: str, width: int) -> str:
    """Return text in lines that end neither inside a number or an interval nor at a hyphen."""
    filled = textwrap.fill(unbroken(text), width, break_on_hyphens=False)
    return filled.replace("\u00a0", " ")


_INSIDE = re.compile(r"(?<=\d) (?=%|to -?\d)|(?<=\d to) (?=-?\d)")
"""Blanks inside numbers and intervals, such as ``95 %`` and ``-0.1 to 0.2``."""
