"""Registry of objects that settings select by name: built-in ones and plugins."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.text import folded, known_name, nearest, nearest_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects of one kind by name; each name is unique, and is found in any case.

    Args:
        kind: kind of object, for messages.
        built_in: built-in objects by name, each as the object or as ``module:attribute``, which is
            imported at first use.
        group: entry-point group of plugins that add names.
        expected: requirements on an entry point, for messages.
        load: function that converts an entry point to an object; by default, it loads a callable.
        synonyms: name for each word that is often used in its place, in the form of
            :func:`analogmed.foundation.text.folded`; messages suggest the name.
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, str | T],
        *,
        group: str,
        expected: str,
        load: Callable[[EntryPoint], T] | None = None,
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.built_in, self.group, self.expected = kind, built_in, group, expected
        self._load = load or self._load_callable
        self._synonyms = synonyms or {}

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted, without importing anything."""
        return tuple(sorted({*self.built_in, *plugin_names(self.group)}))

    def spelled(self, name: str) -> str:
        """Return the name that a text spells in any case, or the text if it is no name."""
        return known_name(name, self.names())

    def plugin(self, name: str) -> EntryPoint | None:
        """Return the entry point of a name; ``None`` if no installed package provides it.

        Raises:
            ConfigError: the name is defined more than once.
        """
        name = self.spelled(name)
        return find_plugin(self.group, name, kind=self.kind, is_built_in=self.is_built_in(name))

    def is_built_in(self, name: str) -> bool:
        """Return whether a name is built into analogmed."""
        return name in self.built_in

    def get(self, name: str) -> T:
        """Return the object of a name.

        Raises:
            ConfigError: the name is unknown or defined more than once, or its plugin does not meet
                the requirements.
        """
        name = self.spelled(name)
        plugin = self.plugin(name)
        if plugin is not None:
            return self._load(plugin)
        if not self.is_built_in(name):
            raise self.unknown(name)
        found = self.built_in[name]
        if not isinstance(found, str):
            return found
        module, _, attribute = found.partition(":")
        value: T = getattr(import_module(module), attribute)
        return value

    def check(self, name: str) -> None:
        """Raise ConfigError if a name is unknown, without importing anything."""
        if self.spelled(name) not in self.names():
            raise self.unknown(name)

    def unknown(self, name: str, more: Iterable[str] = ()) -> ConfigError:
        """Return the error for an unknown name, with the nearest known one.

        Args:
            name: requested name.
            more: further valid names.
        """
        names = {*self.names(), *more}
        if {*str(name).split(",")} & names:
            return ConfigError(
                f"unknown {self.kind} '{name}'; separate names by blanks: "
                f"{str(name).replace(',', ' ')}"
            )
        word = folded(str(name))
        close = word if word in self._synonyms else nearest_name(name, {*names, *self._synonyms})
        meant = nearest(self._synonyms.get(close or "", name), names)
        return ConfigError(f"unknown {self.kind} '{name}'; {meant}")

    def _load_callable(self, plugin: EntryPoint) -> T:
        loaded: Any = load_callable(plugin, kind=self.kind, expected=self.expected)
        return loaded


def refuse_unknown_options(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise an error for an option that a function does not have.

    Args:
        what: kind and name of the function, for messages.
        given: names of the given options.
        known: names of its options.

    Raises:
        ConfigError: names the first unknown option and the nearest known one.
    """
    known = tuple(known)
    for option in given:
        if option not in known:
            meant = nearest(option, known) if known else "it has no options"
            raise ConfigError(f"{what}: unknown option '{option}'; {meant}")


def find_plugin(group: str, name: str, *, kind: str, is_built_in: bool) -> EntryPoint | None:
    """Return the entry point of a name, or ``None`` if no installed package provides it.

    Args:
        group: entry-point group, for instance ``analogmed.tasks``.
        name: requested name.
        kind: kind of object, for messages.
        is_built_in: whether analogmed itself defines the name.

    Returns:
        The entry point, or ``None`` if no installed package provides the name.

    Raises:
        ConfigError: several packages provide the name, or a package redefines a built-in name.
    """
    found = [point for point in installed_plugins(group) if point.name == name]
    if len(found) + is_built_in > 1:
        homes = [*(["analogmed itself"] if is_built_in else []), *map(home_of, found)]
        raise ConfigError(
            f"{kind} '{name}' is defined more than once ({', '.join(homes)}); uninstall a package, "
            f"or rename its entry point of the group {group}"
        )
    return found[0] if found else None


def plugin_names(group: str) -> set[str]:
    """Return the names that installed packages provide."""
    return {point.name for point in installed_plugins(group)}


def installed_plugins(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group that installed packages provide.

    The metadata of all packages are read once, and again after the search path, or a folder in it,
    has changed.
    """
    folders = [Path(folder) for folder in sys.path]
    changes = (path.stat().st_mtime_ns if path.exists() else 0 for path in folders)
    return _read_plugins(group, tuple(zip(sys.path, changes, strict=True)))


@lru_cache(maxsize=64)
def _read_plugins(group: str, _search_path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def home_of(point: EntryPoint) -> str:
    """Return the target of an entry point and its package."""
    return f"{point.value} of {point.dist.name if point.dist else 'an unknown package'}"


def load_plugin(point: EntryPoint, *, kind: str, expected: str) -> Any:
    """Import the target of an entry point.

    Args:
        point: the entry point.
        kind: kind of object, for messages.
        expected: requirements on the object, for messages.

    Raises:
        ConfigError: the import fails; the message names the package and the requirements.
    """
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{kind} '{point.name}': plugin {home_of(point)} cannot be loaded: "
            f"{_raised(error)}; expected {expected}"
        ) from error


def load_callable(point: EntryPoint, *, kind: str, expected: str) -> Callable[..., Any]:
    """Import the target of an entry point, which must be a callable with a signature.

    Args, Raises: as :func:`load_plugin`; also raises if it is not callable or has no signature.
    """
    loaded = load_plugin(point, kind=kind, expected=expected)
    if not callable(loaded):
        raise ConfigError(
            f"{described(kind, point)} is {type(loaded).__name__}, not callable; "
            f"expected {expected}"
        )
    try:
        inspect.signature(loaded)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{described(kind, point)} has no signature ({error}); expected {expected}"
        ) from error
    return loaded


def call_plugin(
    function: Callable[..., Any],
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    *,
    what: str,
    expected: str,
    returns: type[T],
) -> T:
    """Call code of another package and check the type of its result.

    Args:
        function: function of the plugin.
        arguments, options: positional and keyword arguments.
        what: plugin and package, for messages.
        expected: supported call signature, for messages.
        returns: required type of the result.

    Raises:
        AnalogmedError, MemoryError: the code raises it.
        ConfigError: the code raises another error, does not accept the arguments, or returns
            another type; the message names the package and the expected signature.
    """
    try:
        result = function(*arguments, **(options or {}))
    except (AnalogmedError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what}: {_raised(error)}; expected {expected}") from error
    if not isinstance(result, returns):
        raise ConfigError(f"{what} returned {type(result).__name__}; expected {expected}")
    return result


def described(kind: str, point: EntryPoint) -> str:
    """Return a description of a plugin and its package, for messages."""
    return f"{kind} '{point.name}': plugin {home_of(point)}"


def _raised(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
