"""Tables that need no training are on their pages as the programs compute them."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_tables_of_pages_are_what_their_programs_compute(program):
    document_tables = program("experiments", "document_tables")
    for name in document_tables.TABLES:
        page, text = document_tables.with_table(DOCS, name)
        assert page.read_text(encoding="utf-8") == text, name
