"""Numbers as text: one format for each kind of number in tables and sentences."""

from typing import Any

import pandas as pd

EN_DASH = "\u2013"
UNKNOWN = EN_DASH
"""Text of a missing value."""


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dictionaries by column name."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


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


def in_interval(low: float, high: float, level: float, digits: int = 3) -> str:
    """Return a confidence interval as it follows an estimate in a sentence.

    Example:
        >>> in_interval(0.1, 0.2, 0.95, 2)
        ' (95 % interval 0.10 to 0.20)'
    """
    if pd.isna(low) or pd.isna(high):
        return " (no interval: too few patients or chips)"
    ends = f"{format_fixed(low, digits)} to {format_fixed(high, digits)}"
    return f" ({100 * level:.3g} % interval {ends})"


def size_interval(low: float, high: float, level: float) -> str:
    """Return the interval of the size of a difference whose interval excludes 0."""
    return in_interval(min(abs(low), abs(high)), max(abs(low), abs(high)), level)
