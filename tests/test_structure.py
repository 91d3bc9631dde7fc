"""Limits of the structure: sizes of folders and files, import circles, imports that go up."""

import importlib
import re
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
    {"kinds"},
    {"network"},
    {"tables"},
    {"metrics"},
    {"foundation"},
)
"""Packages from top to bottom. Each imports from those below it; those of one level stay apart."""

LAZY = (
    "analogmed",
    "analogmed.analog",
    "analogmed.config",
    "analogmed.data",
    "analogmed.evaluation",
    "analogmed.evaluation.statistics",
    "analogmed.hardware",
    "analogmed.models",
    "analogmed.report",
    "analogmed.training",
)
"""Packages that import their public names when these are first used, and the settings."""

PROGRAMS = {"__init__", "__main__", "config", "eval", "train", "sensitivity", "uncertainty"}
"""Modules beside the packages: the public names, and what `python -m analogmed.NAME` runs."""


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Modules that each module imports, also inside functions and for type checking."""
    graph = grimp.build_graph("analogmed", cache_dir=None)
    return {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}


def test_no_folder_holds_too_many_files():
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
    assert {folder: n for folder, n in sizes.items() if n > MOST_FILES} == {}


def test_no_file_is_too_long():
    long = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert long == set()


def test_modules_import_in_no_circle(imports):
    assert _circles(imports) == []


def test_nothing_but_programs_lies_beside_the_packages():
    assert {path.stem for path in ROOT.glob("*.py")} == PROGRAMS


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
    assert up == set()


def test_each_package_has_its_place():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set().union(*LEVELS)


@pytest.mark.parametrize("package", LAZY)
def test_public_names_are_there_and_are_no_files_of_their_package(package):
    """Importing a file would replace the public name of its package."""
    module = importlib.import_module(package)
    folder = Path(module.__file__).parent
    files = {path.stem for path in folder.iterdir()} if package != "analogmed.config" else set()
    for name in module.__all__:
        assert name not in files
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", LAZY)
def test_a_name_that_is_not_public_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018


def test_dotted_names_of_documents_and_programs_exist():
    """Of modules in packages, and of what they define."""
    missing = set()
    packages = set().union(*LEVELS)  # other names are those of plugin groups and of metadata
    root = ROOT.parent
    for path in (
        *(root / "README.md", root / "pyproject.toml"),
        *root.glob("docs/**/*.md"),
        *root.glob("*/**/*.ipynb"),
        *root.glob("experiments/*.py"),
        *root.glob("benchmarks/*.py"),
        *ROOT.rglob("*.py"),
    ):
        for name in re.findall(r"\banalogmed(?:\.\w+)+", path.read_text(encoding="utf-8")):
            if name.split(".")[1] in packages and not _exists(name):
                missing.add((path.relative_to(root).as_posix(), name))
    assert missing == set()


def _exists(name: str) -> bool:
    parts = name.split(".")
    for number in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:number]))
        except ImportError as error:
            if (error.name or "").partition(".")[0] == "triton":
                return True
            continue
        return number == len(parts) or hasattr(found, parts[number])
    return False


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
