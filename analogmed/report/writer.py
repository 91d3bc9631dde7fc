"""The report: one offline page, and its tables as Markdown and LaTeX."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from operator import itemgetter
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.report.findings import findings
from analogmed.report.kinds.registry import kind_of
from analogmed.report.names import capitalised, hardware_name, task_name
from analogmed.report.page.case_view import without_pictures
from analogmed.report.page.sections import Section
from analogmed.report.provenance import facts_of, files_of
from analogmed.report.run import Run
from analogmed.report.runs import read_run
from analogmed.report.text_table import Column, TextTable, latex_text, markdown_text

_LONGEST_CAUSE = 200
_ERRORS_OF_TABLES = (LookupError, ValueError, TypeError)
"""Errors that pandas, numpy and matplotlib raise for inconsistent rows."""
NAMES = ("report.html", "report.md", "report.tex")


@dataclass(frozen=True)
class Chapter:
    """A run on the page.

    Attributes:
        key: identifier of the chapter in links.
        title: heading.
        run: run that the chapter describes.
        findings: sentences, the most important one first.
        parts: parts in order.
    """

    key: str
    title: str
    run: Run
    findings: tuple[str, ...]
    parts: tuple[Section, ...]


@checks_arguments
def write_report(
    folders: Sequence[Path | str] | Path | str, out: Path | str | None = None
) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``report.tex`` for some runs.

    Args:
        folders: run folders of any command, or one of them.
        out: output folder; by default the first run folder.

    Returns:
        the files written; identical runs yield identical bytes.

    Raises:
        ConfigError: no folder is given.
        DataError: a folder is not a run folder, or contains a damaged file.
        InconsistentRunError: the files of a folder are inconsistent.
    """
    folders = (folders,) if isinstance(folders, str | Path) else folders
    if not folders:
        raise ConfigError("no run folder is given; give one or more, for instance runs/eval")
    chapters = []
    for number, folder in enumerate(folders, 1):
        with _naming_damage(folder):
            chapters.append(_chapter(number, folder))
    texts = (to_html(chapters), to_markdown(chapters), to_latex(chapters))
    place = Path(folders[0] if out is None else out)
    return [
        write_text_atomically(place / name, text) for name, text in zip(NAMES, texts, strict=True)
    ]


class InconsistentRunError(DataError):
    """The files of a run folder are valid separately, but inconsistent with each other."""


@contextmanager
def _naming_damage(folder: Path | str) -> Iterator[None]:
    """Raise an InconsistentRunError for an error that damaged tables can cause.

    The reader checks each table, but not the consistency of the rows and tables of a run. All
    other exceptions are bugs and pass unchanged.
    """
    try:
        yield
    except AnalogmedError:
        raise
    except _ERRORS_OF_TABLES as error:
        cause = " ".join(str(error).split())[:_LONGEST_CAUSE]
        raise InconsistentRunError(
            f"{folder}: the files of the run do not fit each other ({type(error).__name__}: "
            f"{cause}). Run the program that wrote them again"
        ) from error


def to_html(chapters: Sequence[Chapter]) -> str:
    """Return the whole page, including styles, script, figures and example cases."""
    environment = Environment(
        loader=PackageLoader("analogmed.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["without_pictures"] = without_pictures
    script = _resource("page.js")
    return environment.get_template("page.html.j2").render(
        title=_title(chapters),
        lead=_lead(chapters),
        kinds=list(dict.fromkeys(chapter.run.kind for chapter in chapters)),
        notices=_notices(chapters),
        chapters=chapters,
        style=Markup(_resource("page.css")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        svg=Markup,
    )


def to_markdown(chapters: Sequence[Chapter]) -> str:
    """Return findings and tables as Markdown."""
    lines = [f"# {markdown_text(_title(chapters))}"]
    for chapter in chapters:
        lines.append(f"## {markdown_text(chapter.title)}")
        if chapter.findings:
            lines.append("\n".join(f"- {markdown_text(text)}" for text in chapter.findings))
        for part in chapter.parts:
            tables = [table.markdown.strip() for table in _tables(part)]
            listings = [f"{markdown_text(t)}:\n\n{_fenced(text)}" for t, text in part.listing]
            if tables or listings:
                lines += [f"### {markdown_text(part.title)}", *tables, *listings]
    lines += map(markdown_text, _notices(chapters))
    return "\n\n".join(lines) + "\n"


def to_latex(chapters: Sequence[Chapter]) -> str:
    r"""Return findings and tables for ``\input``; requires the package ``booktabs``."""
    lines = [r"% \usepackage{booktabs}"]
    for chapter in chapters:
        lines.append(rf"\section{{{latex_text(chapter.title)}}}")
        lines += [f"{latex_text(text)}\n" for text in chapter.findings]
        lines += [table.latex for part in chapter.parts for table in _tables(part)]
    lines += [f"{latex_text(text)}\n" for text in _notices(chapters)]
    return "\n".join(lines)


def _chapter(number: int, folder: Path | str) -> Chapter:
    run = read_run(folder)
    key = f"run{number}"
    title = f"{capitalised(run.kind)}: {run.name}"
    try:
        return Chapter(key, title, run, tuple(findings(run)), tuple(_sections(run, key)))
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    """Yield the sections of a run in reading order; the last one describes how the run was made."""
    yield from kind_of(run.kind).sections(run, prefix)
    yield Section(f"{prefix}-made", "How it was made", facts=facts_of(run), listing=files_of(run))


def _title(chapters: Sequence[Chapter]) -> str:
    """Return the data sets and the hardware of the page as its title."""
    chips: dict[str, list[str]] = {}
    for chapter in chapters:
        settings = chapter.run.settings
        on_chips = chapter.run.kind != "training" or settings.get("training") != "digital"
        hardware = on_chips and (settings.get("hardware") or {}).get("preset")
        if chapter.run.data_name:
            places = chips.setdefault(_data_of(chapter.run), [])
            places += [f"on {hardware_name(str(hardware))} chips"] if hardware else []
    about = [
        " ".join(filter(None, [task, " and ".join(dict.fromkeys(places))]))
        for task, places in chips.items()
    ]
    return ", ".join(about) or ", ".join(c.run.name for c in chapters)


def _data_of(run: Run) -> str:
    """Return the data set of a run, which says where they are synthetic."""
    return task_name(run.data_name) + (" (synthetic data)" if run.is_synthetic else "")


def _notices(chapters: Sequence[Chapter]) -> list[str]:
    """Return the sentences at the end of a page: synthetic data, and what it is for."""
    named = [task_name(c.run.data_name) for c in chapters if c.run.is_synthetic]
    synthetic = [name for name in dict.fromkeys(named) if name]
    of_data = f" of {' and '.join(synthetic)}" if synthetic else ""
    lines = [f"The data{of_data} are synthetic: they show no patient."] if named else []
    return [*lines, "Research use only. No result is a statement about patients."]


def _lead(chapters: Sequence[Chapter]) -> str:
    return next((chapter.findings[0] for chapter in chapters if chapter.findings), "")


def _tables(part: Section) -> list[TextTable]:
    columns = (
        Column("what", itemgetter(0), is_text=True),
        Column("value", itemgetter(1), is_text=True),
    )
    facts = [TextTable.of("Settings and versions", columns, part.facts)] if part.facts else []
    return [*part.tables, *part.folded, *facts]


def _fenced(text: str) -> str:
    """Return a code block with a fence that does not occur in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.strip()}\n{fence}"


def _resource(name: str) -> str:
    return (files("analogmed.report.page") / "templates" / name).read_text(encoding="utf-8")
