"""Definition of a kind of run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from analogmed.report.page.sections import Section
from analogmed.report.run import Run
from analogmed.tables.table import Table


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        name: name of the kind.
        program: command that creates such runs.
        tables: tables from which its page is built; a folder has some of them.
        known_table, known_column: table and column that identify such a run.
        findings: function that yields sentences on a run, the most important one first.
        sections: function that yields the sections of a page; its second argument is the prefix of
            all names in links.
    """

    name: str
    program: str
    tables: tuple[Table, ...]
    known_table: Table
    known_column: str
    findings: Callable[[Run], Iterator[str]]
    sections: Callable[[Run, str], Iterator[Section]]
