"""Import closure of Python modules, determined from their source without running it.

The closure contains each file whose code can run when the starting modules run. It includes imports
at any depth, also inside functions, and modules that are named by a string, such as
``"package.module:function"``.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from analogmed.foundation.errors import ConfigError

OURS = "analogmed"


@dataclass(frozen=True)
class Closure:
    """Files and packages that a set of modules depends on.

    Attributes:
        files: source file of each followed module, by module name.
        packages: top-level names of other imported packages, standard library excluded.
    """

    files: dict[str, Path] = field(default_factory=dict)
    packages: frozenset[str] = frozenset()


def closure_of(modules: Iterable[str], is_followed: Callable[[str], bool]) -> Closure:
    """Return the import closure of modules.

    A package of analogmed only collects names: ``from package import name`` leads to the module
    that defines the name. Any other package runs its ``__init__``, which is followed too.

    Args:
        modules: dotted names of the starting modules.
        is_followed: predicate that selects top-level names whose modules are followed; others are
            listed.

    Raises:
        ConfigError: a followed module has no readable source.
    """
    sources = _Sources()
    files: dict[str, Path] = {}
    packages: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in files or top in sys.stdlib_module_names:
            continue
        if not is_followed(top):
            packages.add(top)
            continue
        path = sources.file(name)
        if path is None:
            continue  # namespace package, or attribute of a module that is followed itself
        files[name] = path
        if path.suffix == ".py":
            waiting += sources.imports(name, path)
    return Closure(dict(sorted(files.items())), frozenset(packages))


def is_installed(top: str, site_folders: Sequence[Path]) -> bool:
    """Return whether a top-level module is in one of the folders of installed packages."""
    spec = find_top(top)
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location and spec.origin else []
    places += spec.submodule_search_locations or []
    return any(Path(p).resolve().is_relative_to(f) for p in places for f in site_folders)


@dataclass(frozen=True)
class _Source:
    """Import statements of a file, and its strings in the form of a dotted name."""

    imports: tuple[ast.Import | ast.ImportFrom, ...]
    texts: tuple[str, ...]


def _read_source(path: Path) -> _Source:
    try:
        content = path.read_bytes()
        tree = ast.parse(content, str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read this module: {error}. Correct the file.") from error
    texts = _DOTTED.findall(content.decode("utf-8", errors="replace"))
    return _Source(tuple(_import_statements(tree)), tuple(dict.fromkeys(texts)))


def _import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield all import statements below a node, except in expressions, which contain none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not isinstance(child, ast.expr):
            yield from _import_statements(child)


_DOTTED = re.compile(r"""["'](\w+(?:\.\w+)+(?::[\w.]+)?)["']""")


class _Sources:
    """Files of modules and their imports; each file is located and parsed once."""

    def __init__(self) -> None:
        self._files: dict[str, Path | None] = {}
        self._read: dict[Path, _Source] = {}
        self._specs: dict[str, ModuleSpec | None] = {}

    def file(self, name: str) -> Path | None:
        """Return the file of a module, or ``None`` if there is none, without importing it."""
        if name not in self._files:
            self._files[name] = self._find(name)
        return self._files[name]

    def imports(self, name: str, path: Path) -> Iterator[str]:
        """Yield the modules that a file imports or names, and their parent packages."""
        for module in self._named(name, path):
            yield module
            if not _is_ours(module):
                parts = module.split(".")
                yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))

    def _find(self, name: str) -> Path | None:
        top, *below = name.split(".")
        if top not in self._specs:
            self._specs[top] = find_top(top)
        spec = self._specs[top]
        if spec is None:
            return None
        if not below:
            return Path(spec.origin) if spec.has_location and spec.origin else None
        for location in spec.submodule_search_locations or ():
            folder = Path(location).joinpath(*below)
            if (folder / "__init__.py").is_file():
                return folder / "__init__.py"
            if (module := folder.with_name(f"{folder.name}.py")).is_file():
                return module
            for suffix in EXTENSION_SUFFIXES:
                if (module := folder.with_name(f"{folder.name}{suffix}")).is_file():
                    return module
        return None

    def _named(self, name: str, path: Path) -> Iterator[str]:
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        source = self._source(path)
        for node in source.imports:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
                continue
            origin = _origin(node, package)
            for alias in node.names:
                yield from self._defining(origin, alias.name)
        for text in source.texts:
            yield from self._in_text(text, name.partition(".")[0])

    def _in_text(self, text: str, top: str) -> Iterator[str]:
        """Yield the module of ``"package.module"`` or ``"package.module:attribute"``."""
        module = text.partition(":")[0]
        if module.startswith((f"{top}.", f"{OURS}.")) and self.file(module):
            yield module

    def _defining(self, origin: str, name: str) -> Iterator[str]:
        """Yield the modules that ``from origin import name`` needs."""
        below = f"{origin}.{name}"
        if not _is_ours(origin):
            yield origin
            yield below
            return
        path = self.file(origin)
        bound = self._bindings(path, origin) if path and path.name == "__init__.py" else {}
        if name in bound:
            yield from self._defining(*bound[name])
        else:
            yield below if self.file(below) else origin

    def _bindings(self, path: Path, package: str) -> dict[str, tuple[str, str]]:
        """Return the names that a package imports, each with its module and its name there.

        Packages with lazy imports list their names for type checkers.
        """
        return {
            alias.asname or alias.name: (_origin(node, package), alias.name)
            for node in self._source(path).imports
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def _source(self, path: Path) -> _Source:
        if path not in self._read:
            self._read[path] = _read_source(path)
        return self._read[path]


def find_top(top: str) -> ModuleSpec | None:
    """Return the specification of a top-level module, or ``None`` if it cannot be imported."""
    try:
        return find_spec(top)
    except (ImportError, ValueError):
        return None


def _origin(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == OURS
