"""Write the tables that need no training into the pages of the documentation.

    python experiments/document_tables.py [--docs docs]

Each table is between the markers of its name on a page, ``<!-- NAME -->`` and ``<!-- end of NAME
-->``. Takes half a minute. A test compares the pages with these tables.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import isotropic_in_table
import published_networks
import signal_energy
import table1
from _programs import markdown

from analogmed.foundation.files import write_text_atomically
from analogmed.report.text_table import replace_between
from analogmed.search.benchmark.table import load

COST = "explanation/evidence/cost.md"


def published() -> str:
    """Return the table of published and estimated values."""
    found = published_networks.anchors(
        published_networks.resnet32_cost(), published_networks.resnet18_cost()
    )
    return markdown(published_networks.table(found))


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "table-1": (COST, lambda: table1.to_markdown(table1.table())),
    "published-networks": (COST, published),
    "signal-energy": (COST, signal_energy.table),
    "isotropic-in-table": (COST, lambda: isotropic_in_table.table(load())),
}
"""Page and function of each table."""


def with_table(docs: Path, name: str) -> tuple[Path, str]:
    """Return a page, and its text with the table of this name as it is computed now."""
    page, compute = TABLES[name]
    path = docs / page
    return path, replace_between(path.read_text(encoding="utf-8"), name, compute().strip())


def main() -> None:
    """Write all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the pages")
    arguments = parser.parse_args()
    for name in TABLES:
        path, text = with_table(arguments.docs, name)
        write_text_atomically(path, text)
        print(f"{path}: {name}")


if __name__ == "__main__":
    main()
