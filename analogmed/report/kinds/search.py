"""Runs of ``analogmed search``."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from analogmed.foundation.errors import DataError
from analogmed.metrics.registry import PRIMARY
from analogmed.report.figures.importance import importance_heat_map
from analogmed.report.figures.search import objective_label, pareto_front, search_history
from analogmed.report.kinds.kind import Kind
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.run import Run
from analogmed.report.tables.search import front_table
from analogmed.report.text import format_quantity
from analogmed.tables.estimates import find_objective
from analogmed.tables.search import CANDIDATES, FRONT, IMPORTANCE, measured_metric
from analogmed.tables.table import records

_DEFAULT = (f"{PRIMARY}_1d", "tiles")
_MOST_ROWS = 30


def _objectives(run: Run) -> tuple[str, ...]:
    """Return the objectives of a search, or the default ones if its settings are missing."""
    given = run.settings.get("objectives", _DEFAULT)
    names = tuple(map(str, given)) if isinstance(given, list | tuple) else ()
    lacking = [name for name in names if name not in run.tables["candidates"]]
    if not names or lacking:
        raise DataError(
            f"{run.settings_file}, entry 'objectives': expected columns of {CANDIDATES.file}, got "
            f"{given!r}. Run the search again."
        )
    return names


def _evaluated(run: Run) -> pd.DataFrame:
    candidates = run.tables["candidates"]
    evaluated = candidates[candidates["status"] == "evaluated"]
    return evaluated.assign(on_front=evaluated["on_front"].astype(bool))


def _findings(run: Run) -> Iterator[str]:
    evaluated, front = _evaluated(run), run.tables.get("front")
    if evaluated.empty:
        yield "No network is evaluated yet."
        return
    first, *others = _objectives(run)
    metric = measured_metric(evaluated)
    if front is None or front.empty:
        yield f"None of the {len(evaluated)} evaluated networks meets the constraints."
        return
    best = records(front.head(1))[0]
    rest = "".join(
        f", {objective_label(name, metric)} {format_quantity(best[name])}" for name in others
    )
    yield (
        f"The best of {len(evaluated)} evaluated networks is trial {best['number']:.0f}: "
        f"{objective_label(first, metric)} {format_quantity(best[first])}{rest}."
    )
    if others:
        yield f"{len(front)} of them {'is' if len(front) == 1 else 'are'} on the Pareto front."
    if find_objective(first, metric):
        yield (
            "Values are means over the patients of the selection, from short trainings. They are "
            "optimistically biased for the best networks: evaluate these on the test patients."
        )


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    evaluated = _evaluated(run)
    if evaluated.empty:
        yield Section(f"{prefix}-front", "Pareto front", "No network is evaluated yet.")
        return
    objectives = _objectives(run)
    front = run.tables.get("front", evaluated.iloc[:0])
    head = partial(objective_label, primary=measured_metric(evaluated))
    more = f"The first {_MOST_ROWS} of {len(front)} networks." if len(front) > _MOST_ROWS else ""
    yield Section(
        f"{prefix}-front",
        "Pareto front",
        f"Networks that no other one equals or exceeds in all objectives. {more}".strip(),
        figures=(
            page_figure(
                partial(pareto_front, objectives=objectives),
                evaluated,
                f"{prefix}-front",
                "Objectives of all networks, and their Pareto front; the table has the numbers",
            ),
        ),
        tables=(front_table(front.head(_MOST_ROWS), objectives, head=head),),
    )
    figure = page_figure(
        partial(search_history, objectives=objectives),
        evaluated,
        f"{prefix}-history",
        "First objective of each network in the order of evaluation",
    )
    yield Section(f"{prefix}-history", "Course of the search", figures=(figure,))
    importance = run.tables.get("importance", pd.DataFrame())
    if not importance.empty:
        alt = "Importance of the blocks of each level; importance.csv has the numbers"
        figure = page_figure(
            importance_heat_map, importance, f"{prefix}-blocks", alt, paper=True, narrow=False
        )
        yield Section(f"{prefix}-blocks", "Importance of blocks", figures=(figure,))


KIND = Kind(
    name="search",
    program="search run",
    tables=(CANDIDATES, FRONT, IMPORTANCE),
    known_table=CANDIDATES,
    known_column="on_front",
    findings=_findings,
    sections=_sections,
)
