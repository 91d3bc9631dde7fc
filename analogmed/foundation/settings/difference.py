"""Differences between a resumed run and its original settings and patients."""

import json
from collections.abc import Collection, Mapping
from typing import Any

_ABSENT = "(not there)"


def compare_settings(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    may_differ: Collection[str] = (),
) -> dict[str, tuple[str, str]]:
    """Return the settings whose values have changed.

    A setting that is missing from ``old``, because it was added later, counts as its default.

    Args:
        old: original settings of the run, as returned by :func:`analogmed.config.to_plain`.
        new: current settings of the run.
        defaults: default values of all settings.
        may_differ: dotted names of settings or sections that are ignored.

    Returns:
        by dotted name, in the order of the settings: old and new value as JSON, in which a tuple
            is a list, or a note that the setting is missing.
    """
    now, by_default = _leaves(new), _leaves(defaults)
    then = {name: by_default[name] for name in now if name in by_default} | _leaves(old)
    return {
        name: (then.get(name, _ABSENT), now.get(name, _ABSENT))
        for name in {**then, **now}
        if then.get(name) != now.get(name)
        and not any(name == may or name.startswith(f"{may}.") for may in may_differ)
    }


def format_differences(differences: Mapping[str, tuple[str, str]]) -> str:
    """Return the differences for a message, one line each: ``name: old -> new``."""
    return "\n".join(f"  {name}: {old} -> {new}" for name, (old, new) in differences.items())


def changed_members(
    before: Mapping[str, Collection[str]], now: Mapping[str, Collection[str]]
) -> str:
    """Return which names are new, missing or in another split; empty if all parts are equal.

    Args:
        before: names by group, such as patients by split.
        now: the same at present.

    Example:
        >>> changed_members({"train": ["a", "b"], "test": ["c"]}, {"train": ["a"], "test": ["b"]})
        'missing: c; in another split: b'
    """
    then, present = _part_of(before), _part_of(now)
    changes = {
        "new": present.keys() - then.keys(),
        "missing": then.keys() - present.keys(),
        "in another split": {name for name in then.keys() & present if then[name] != present[name]},
    }
    return "; ".join(f"{what}: {_first(names)}" for what, names in changes.items() if names)


_SHOWN = 5


def _first(names: Collection[str]) -> str:
    """Return the first few names, and the number of further ones."""
    shown = sorted(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _part_of(members: Mapping[str, Collection[str]]) -> dict[str, str]:
    return {name: part for part, names in members.items() for name in names}


def _leaves(plain: Any, name: str = "") -> dict[str, str]:
    """Return the settings as JSON by dotted name; an empty section counts as a setting."""
    if isinstance(plain, Mapping) and (plain or not name):
        below = [_leaves(value, f"{name}.{key}" if name else key) for key, value in plain.items()]
        return {key: value for leaves in below for key, value in leaves.items()}
    return {name: json.dumps(plain, sort_keys=True)}
