"""Things that settings name: built-in ones, and those of installed packages."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.text import nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """What one kind of name stands for; a name has one meaning.

    Args:
        kind: what the names stand for, for messages.
        built_in: by name, itself or ``module:attribute``, which is imported when it is needed.
        group: entry points of installed packages with more names.
        expected: what an entry point has to be, for messages.
        load: from an entry point to what the name stands for; by default a callable.
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, str | T],
        *,
        group: str,
        expected: str,
        load: Callable[[EntryPoint], T] | None = None,
    ) -> None:
        self.kind, self.built_in, self.group, self.expected = kind, built_in, group, expected
        self._load = load or self._load_callable

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted; nothing is imported."""
        return tuple(sorted({*self.built_in, *plugin_names(self.group)}))

    def plugin(self, name: str) -> EntryPoint | None:
        """Return the entry point of a name; ``None`` if no installed package has it.

        Raises:
            ConfigError: the name is defined more than once.
        """
        return find_plugin(self.group, name, kind=self.kind, is_built_in=self.is_built_in(name))

    def is_built_in(self, name: str) -> bool:
        """Return whether analogmed defines the name itself."""
        return name in self.built_in

    def get(self, name: str) -> T:
        """Return what a name stands for.

        Raises:
            ConfigError: the name is unknown, or defined more than once; or its plugin is not what
                was expected.
        """
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

    def unknown(self, name: str, more: Iterable[str] = ()) -> ConfigError:
        """Return the error for an unknown name, with the nearest known one.

        Args:
            name: what was asked for.
            more: other names that would have been accepted.
        """
        known = {*self.names(), *more}
        return ConfigError(f"unknown {self.kind} '{name}'; {nearest(name, known)}")

    def _load_callable(self, plugin: EntryPoint) -> T:
        loaded: Any = load_callable(plugin, kind=self.kind, expected=self.expected)
        return loaded


def find_plugin(group: str, name: str, *, kind: str, is_built_in: bool) -> EntryPoint | None:
    """The entry point of a name.

    Args:
        group: of entry points, for instance ``analogmed.tasks``.
        name: what is asked for.
        kind: what it is, for messages.
        is_built_in: whether analogmed has one of this name itself.

    Returns:
        ``None`` where no installed package brings the name.

    Raises:
        ConfigError: several packages bring it, or one brings what is built in.
    """
    found = [point for point in entry_points(group=group) if point.name == name]
    if len(found) + is_built_in > 1:
        homes = [*(["analogmed itself"] if is_built_in else []), *map(home_of, found)]
        raise ConfigError(
            f"{kind} '{name}' is defined more than once ({', '.join(homes)}); uninstall a package, "
            f"or rename its entry point of the group {group}"
        )
    return found[0] if found else None


def plugin_names(group: str) -> set[str]:
    """Names that installed packages bring."""
    return {point.name for point in entry_points(group=group)}


def home_of(point: EntryPoint) -> str:
    """What an entry point refers to, and the package that it is of."""
    return f"{point.value} of {point.dist.name if point.dist else 'an unknown package'}"


def load_plugin(point: EntryPoint, *, kind: str, expected: str) -> Any:
    """Import what an entry point refers to.

    Args:
        point: the entry point.
        kind: what it is, for messages.
        expected: what it has to be, for messages.

    Raises:
        ConfigError: importing it fails; names the package and what was expected.
    """
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{kind} '{point.name}': plugin {home_of(point)} cannot be loaded: "
            f"{_raised(error)}; expected {expected}"
        ) from error


def load_callable(point: EntryPoint, *, kind: str, expected: str) -> Callable[..., Any]:
    """Import what an entry point refers to, which has to be called by its signature.

    Args, Raises: as :func:`load_plugin`; and it is not callable, or has no signature.
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
    """Call code of another package, and check what it returns.

    Args:
        function: the code.
        arguments, options: given to it by position and by keyword.
        what: names the plugin and its package in messages.
        expected: the call that is supported, for messages.
        returns: type that the result has to have.

    Raises:
        AnalogmedError: as the code raises it.
        ConfigError: the code raises another error, does not accept the arguments, or returns
            something else; names the package and what was expected.
    """
    try:
        result = function(*arguments, **(options or {}))
    except AnalogmedError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what}: {_raised(error)}; expected {expected}") from error
    if not isinstance(result, returns):
        raise ConfigError(f"{what} returned {type(result).__name__}; expected {expected}")
    return result


def described(kind: str, point: EntryPoint) -> str:
    """Return a plugin with its package, for messages."""
    return f"{kind} '{point.name}': plugin {home_of(point)}"


def _raised(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
