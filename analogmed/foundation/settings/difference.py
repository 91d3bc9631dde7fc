"""The settings of a run that goes on, beside those that it began with."""

import json
from collections.abc import Collection, Mapping
from typing import Any

_ABSENT = "(not there)"


def different_settings(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    may_differ: Collection[str] = (),
) -> dict[str, tuple[str, str]]:
    """Settings that are others than they were.

    A setting that ``old`` lacks, because there was none when the run began, counts as its default.

    Args:
        old: the settings that a run began with, as :func:`analogmed.config.to_plain` gives them.
        new: its settings now.
        defaults: of all settings.
        may_differ: dotted names of settings, or of sections, that do not count.

    Returns:
        by dotted name, in the order of the settings: what it was and what it is, as JSON, in which
        a tuple is a list; or that it is not there.
    """
    now, by_default = _leaves(new), _leaves(defaults)
    then = {name: by_default[name] for name in now if name in by_default} | _leaves(old)
    return {
        name: (then.get(name, _ABSENT), now.get(name, _ABSENT))
        for name in {**then, **now}
        if then.get(name) != now.get(name)
        and not any(name == may or name.startswith(f"{may}.") for may in may_differ)
    }


def listed(differences: Mapping[str, tuple[str, str]]) -> str:
    """Differences for a message: a line for each, ``name: old -> new``."""
    return "\n".join(f"  {name}: {old} -> {new}" for name, (old, new) in differences.items())


def _leaves(plain: Any, name: str = "") -> dict[str, str]:
    """Settings by dotted name, as JSON; an empty section is a setting."""
    if isinstance(plain, Mapping) and (plain or not name):
        below = [_leaves(value, f"{name}.{key}" if name else key) for key, value in plain.items()]
        return {key: value for leaves in below for key, value in leaves.items()}
    return {name: json.dumps(plain, sort_keys=True)}
