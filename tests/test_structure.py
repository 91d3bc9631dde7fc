"""Limits of the structure: sizes of folders and files, import circles, imports that go up.

``OVERSIZED_FOLDERS``, ``CIRCLES``, ``AT_THE_ROOT`` and ``GOING_UP`` list what is still outside the
limits. Shorten them as modules move; a list that names more than there is fails too.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import grimp
import pytest

import analogmed

ROOT = Path(analogmed.__file__).parent
MOST_FILES = 14
MOST_LINES = 400

LEVELS = (
    {"cli"},
    {"search"},
    {"evaluation"},
    {"training"},
    {"data", "models", "analog", "hardware", "execution", "report"},
    {"network"},
    {"tables"},
    {"metrics"},
    {"foundation"},
)
"""Packages from top to bottom. Each imports from those below it; those of one level stay apart."""

PROGRAMS = {"__init__", "__main__", "config", "eval", "train", "sensitivity", "uncertainty"}
"""Modules beside the packages: the public names, and what `python -m analogmed.NAME` runs."""

OVERSIZED_FOLDERS: dict[str, int] = {
    "data": 27,
    "evaluation": 52,
    "report": 33,
    "search": 43,
    "training": 25,
}
OVERSIZED_FILES: set[str] = {"search/strategies/mias.py"}
CIRCLES: set[frozenset[str]] = {
    frozenset({"analogmed.search.executors", "analogmed.search.ray_executor"}),
}
AT_THE_ROOT: set[str] = {
    "cli",
    "cost",
    "exit_status",
    "measure",
    "named_networks",
    "option_words",
    "program_start",
}
GOING_UP: set[tuple[str, str]] = {
    ("analog", "program_start"),
    ("cli", "config"),
    ("cli", "exit_status"),
    ("cli", "option_words"),
    ("evaluation", "config"),
    ("search", "cli"),
    ("search", "config"),
    ("training", "config"),
}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Modules that each module imports, also inside functions and for type checking."""
    graph = grimp.build_graph("analogmed", cache_dir=None)
    return {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}


def test_no_folder_holds_too_many_files():
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
    assert {folder: n for folder, n in sizes.items() if n > MOST_FILES} == OVERSIZED_FOLDERS


def test_no_file_is_too_long():
    long = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert long == OVERSIZED_FILES


def test_modules_import_in_no_circle(imports):
    assert set(_circles(imports)) == CIRCLES


def test_nothing_but_programs_lies_beside_the_packages():
    assert {path.stem for path in ROOT.glob("*.py")} - PROGRAMS == AT_THE_ROOT


def test_imports_go_down(imports):
    depth = {package: n for n, packages in enumerate(LEVELS) for package in packages}
    up = set()
    for importing, imported in imports.items():
        if importing.endswith(".__main__"):
            continue
        package = importing.partition(".")[2].partition(".")[0]
        for name in imported:
            other = name.partition(".")[2].partition(".")[0]
            if package == other or package not in depth:
                continue
            if depth.get(other, -1) <= depth[package]:
                up.add((package, other or "analogmed"))
    assert up == GOING_UP


def test_each_package_has_its_place():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set().union(*LEVELS)


def _circles(imports: dict[str, set[str]]) -> list[frozenset[str]]:
    """Return groups of modules that import each other, directly or through others."""
    reached = {name: _reachable(name, imports) for name in imports}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other]) for name in imports
    }
    return [group for group in groups if len(group) > 1]


def _reachable(start: str, imports: dict[str, set[str]]) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def test_circles_are_found():
    chain = {name: {after} for name, after in pairwise("abcd")} | {"d": {"b"}, "e": {"a"}}
    assert _circles(chain) == [frozenset("bcd")]
