"""Sections of a page about one run, and their figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from analogmed.report.figures.style import WIDTH_IN
from analogmed.report.page.case_view import View, case_view, color_scale
from analogmed.report.page.svg import inline_svg
from analogmed.report.run import Run
from analogmed.report.text_table import TextTable

NARROW_IN = 3.1
"""Width of the figures of a phone, on which their text has at least 12 pixels."""
_MOST_NARROW = 12
"""Largest number of models with narrow figures; each drawing of 50 models takes about 20 s."""


@dataclass(frozen=True)
class PageFigure:
    """A figure on a page.

    Attributes:
        alt: text alternative for screen readers.
        svg: SVG of page width.
        narrow: the same for a phone; empty if the wide figure is used there too.
        own_paper: whether the figure has filled cells and needs a light card, even on dark pages.
    """

    alt: str
    svg: str
    narrow: str = ""
    own_paper: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page about one run.

    Attributes:
        key: identifier of the part in links, unique on the page.
        title: heading.
        text: description in one or two sentences.
        figures, tables: figures and tables in order; tables that duplicate a figure are folded
            below it.
        folded: tables that are collapsed by default.
        view: example cases; empty if there are none.
        slider: data of the slider that lets the figures age; empty if there is none.
        facts: names and values.
        listing: preformatted lines, by title.
    """

    key: str
    title: str
    text: str = ""
    figures: tuple[PageFigure, ...] = ()
    tables: tuple[TextTable, ...] = ()
    folded: tuple[TextTable, ...] = ()
    view: View | None = None
    slider: View | None = None
    facts: tuple[tuple[str, str], ...] = ()
    listing: tuple[tuple[str, str], ...] = ()


def cases_section(run: Run, prefix: str) -> Iterator[Section]:
    """Yield the section of example cases, if the run has any."""
    if run.examples:
        view = case_view(run.examples)
        lines = "Yellow: reference. Blue, dashed: prediction."
        if len(view["classes"]) > 1:
            lines = "Solid line: reference. Dashed line: prediction. Each class has its colour."
        starts = "; it starts at the largest drop" if view["has_dice"] else ""
        text = f"{lines} Move the slider to let the chip age{starts}. Shown: {view['pred_of']}." + (
            " All images are synthetic." if view["is_synthetic"] else ""
        )
        yield Section(
            f"{prefix}-cases", "Example cases", text, view=view | {"colors": color_scale()}
        )


def page_figure(
    draw: Callable[..., object],
    table: pd.DataFrame,
    prefix: str,
    alt: str,
    *,
    paper: bool = False,
    narrow: bool = True,
) -> PageFigure:
    """Return a figure for wide pages and, if it has few models, one for phones.

    Args:
        draw: function of the table, a path and ``width_in``.
        table: rows to draw.
        prefix: prefix of the names in the SVG.
        alt: text alternative.
        paper: whether the figure needs a light card.
        narrow: whether the figure fits on a phone; otherwise it scrolls there.
    """

    def drawn(width_in: float, names: str) -> str:
        return inline_svg(
            lambda path: draw(table, path, width_in=width_in), prefix=names, recolored=not paper
        )

    wide = drawn(WIDTH_IN, prefix)
    if not narrow or ("model" in table and table["model"].nunique() > _MOST_NARROW):
        return PageFigure(alt, wide, own_paper=paper)
    return PageFigure(alt, wide, drawn(NARROW_IN, f"{prefix}-n"), own_paper=paper)
