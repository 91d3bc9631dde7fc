"""What installed packages bring by entry points; a name has one meaning."""

from importlib.metadata import EntryPoint, entry_points

from analogmed.errors import ConfigError


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
