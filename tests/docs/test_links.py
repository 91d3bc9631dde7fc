"""Links of the documentation, and paths of pages in code, lead to files and headings."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
CODE = [
    path
    for folder in ("analogmed", "experiments", "benchmarks", "notebooks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".ipynb", ".j2"}
]


def text_of(page):
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors_of(page):
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    plain = (re.sub(r"\[(.*?)\]\(.*?\)|`", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors_of(target)):
            missing.append(link)
    assert missing == []


def test_pages_that_code_names_exist():
    named = {
        name
        for path in (*CODE, *ROOT.glob("CHANGELOG.md"))
        for name in re.findall(r"\bdocs/[\w./-]+\.md\b", path.read_text("utf-8"))
    }
    assert len(named) > 5
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def pages_in(navigation):
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else pages_in(value)


def test_the_site_has_every_page_once():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    pages = list(pages_in(settings["nav"]))
    copies = {"changelog.md", "explanation/evidence/benchmark-card.md"}  # of docs/hooks/site.py
    existing = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert len(pages) == len(set(pages))
    assert set(pages) == existing | copies


def test_the_index_links_to_every_page():
    links = set(re.findall(r"\]\(([^)\s#]+\.md)", (DOCS / "index.md").read_text("utf-8")))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - links == {
        "index.md"
    }


def test_the_gallery_shows_every_figure():
    shown = re.findall(r"\]\(images/(.+?)\)", (DOCS / "gallery.md").read_text("utf-8"))
    assert sorted(shown) == sorted(path.name for path in (DOCS / "images").iterdir())


def test_the_glossary_defines_each_term_once():
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (DOCS / "glossary.md").read_text("utf-8"), re.M)
    terms = [term for term, _ in rows if term not in {"term", "---"}]
    assert len(terms) > 80
    assert len(terms) == len({term.lower() for term in terms})
