"""Fields of settings that the command line treats differently from an option with a value."""

import dataclasses
from typing import Any

_POSITIONAL, _OPTION, _MAY_BE_EMPTY = "positional", "option", "may_be_empty"


def positional(metavar: str, default: Any = dataclasses.MISSING, *, is_option: bool = False) -> Any:
    """Return a field that the command line takes as a word, or as words if it is a list.

    Args:
        metavar: name in the help and in messages, for instance ``FOLDER``.
        default: value without a word; by default, a word is required.
        is_option: whether the help lists the field as an option, too.
    """
    metadata = {_POSITIONAL: metavar, _OPTION: is_option}
    return dataclasses.field(default=default, metadata=metadata)


def may_be_empty(default: tuple[Any, ...] | None) -> Any:
    """Return a list field that is empty if its option is given without a value."""
    return dataclasses.field(default=default, metadata={_MAY_BE_EMPTY: True})


def positional_names(settings_class: Any) -> dict[str, str]:
    """Return the names of the positional fields of a settings class, each with its metavar."""
    fields = dataclasses.fields(settings_class)
    return {f.name: f.metadata[_POSITIONAL] for f in fields if _POSITIONAL in f.metadata}


def positional_options(settings_class: Any) -> set[str]:
    """Return the names of the positional fields that the help lists as options, too."""
    return {f.name for f in dataclasses.fields(settings_class) if f.metadata.get(_OPTION)}


def names_that_may_be_empty(settings_class: Any) -> set[str]:
    """Return the names of the fields made by :func:`may_be_empty`."""
    return {f.name for f in dataclasses.fields(settings_class) if _MAY_BE_EMPTY in f.metadata}
