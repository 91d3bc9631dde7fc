"""Hook of MkDocs: adds the generated reference and the files of the repository to the site."""

import re
import sys
from pathlib import Path
from posixpath import dirname, relpath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import reference

ROOT = Path(__file__).parents[2]

COPIES = {
    "CHANGELOG.md": "changelog.md",
    "analogmed/search/benchmark/data/medbench.md": "explanation/evidence/benchmark-card.md",
}
"""Pages of the site that are files elsewhere in the repository."""

_LINK = re.compile(r"\]\(([^)\s#]+\.md)(#[^)\s]*)?\)")
_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):(?=<code>)")
_LOADED = re.compile(r"<(?:script|img|link rel=\"stylesheet\")[^>]*?(?:src|href)=\"(https?:[^\"]*)")
_INTERVAL = re.compile(r"(?<=\()([-+]?\d[\d.]*) to ([-+]?\d[\d.]*)(?=\))")


def on_config(config: Any) -> Any:
    """Add the generated pages to the navigation."""
    parts = {title: pages for entry in config.nav for title, pages in entry.items()}
    parts["Reference"] += reference.navigation()
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and those that are files elsewhere in the repository."""
    pages = {page: (ROOT / source).read_text("utf-8") for source, page in COPIES.items()}
    for page, text in (pages | reference.pages()).items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to the pages of the site, and list the generated pages."""
    here = page.file.src_uri
    source = next((source for source, copy in COPIES.items() if copy == here), f"docs/{here}")
    markdown = _LINK.sub(lambda link: _relink(link, source, here), markdown)
    return reference.insert_lists(markdown) if here == "reference/index.md" else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Drop the Sphinx roles of docstrings, and keep intervals on one line."""
    return _INTERVAL.sub(r"\1&nbsp;to&nbsp;\2", _ROLE.sub("", html))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that loads something from another host: the site works offline.

    Raises:
        PluginError: an element of the page has an address on another host.
    """
    if found := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: loads {found[1]} from another host; expected none")
    return output


def _relink(link: re.Match[str], source: str, here: str) -> str:
    if "://" in link[1]:
        return link[0]
    target = (ROOT / source).parent.joinpath(link[1]).resolve().relative_to(ROOT).as_posix()
    page = COPIES.get(target, target.removeprefix("docs/"))
    return f"]({relpath(page, dirname(here) or '.')}{link[2] or ''})"
