"""What installed packages bring by entry points; a name has one meaning."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from analogmed.foundation.errors import AnalogmedError, ConfigError

T = TypeVar("T")


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
