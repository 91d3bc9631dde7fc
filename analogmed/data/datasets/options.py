"""Checks of the options of data sets, which can be any values of a file or command line."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import known_name, nearest

ClassValues = Mapping[str, int | Sequence[int]]
_CLASSES_EXAMPLE = "a mapping from class names to label values, for instance {tumour: [1]}"


def one_text(name: str, value: Any) -> str:
    """Return a text.

    Raises:
        ConfigError: the value is not a text, or is empty.
    """
    if isinstance(value, str) and value:
        return value
    raise ConfigError(f"{name}: expected one text, got {value!r}")


def some_texts(name: str, value: Any) -> tuple[str, ...]:
    """Return a list of texts; a single text is a list of one.

    Raises:
        ConfigError: the value is neither.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise ConfigError(f"{name}: expected a list of texts, got {value!r}")


def known_texts(name: str, value: Any, known: Collection[str], kind: str) -> tuple[str, ...]:
    """Return a list of names, all of them known; a single one is a list of one.

    Args:
        name: name of the option.
        value: value of the option.
        known: names to choose from.
        kind: what a name is called in messages, for instance ``"class"``.

    Raises:
        ConfigError: the value is no list of texts, or a name is unknown.
    """
    chosen = tuple(known_name(text, known) for text in some_texts(name, value))
    for each in chosen:
        if each not in known:
            raise ConfigError(f"{name}: unknown {kind} {each!r}; {nearest(each, known)}")
    return chosen


def some_values(name: str, value: Any) -> tuple[int, ...] | None:
    """Return label values as a list; a single one is a list of one, and ``None`` stays.

    Raises:
        ConfigError: they are no whole numbers.
    """
    listed = None if value is None else _whole_numbers(value)
    if listed is None and value is not None:
        raise ConfigError(f"{name}: expected whole numbers, for instance [0, 1, 2], got {value!r}")
    return listed


def values_of_classes(
    classes: Any, label_values: Sequence[int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the label values of each class.

    Args:
        classes: label value or values by class name.
        label_values: all values of the label files; ``None`` for any.

    Raises:
        ConfigError: the classes are not such a mapping, or share a value.
    """
    if not isinstance(classes, Mapping):
        raise ConfigError(f"classes: expected {_CLASSES_EXAMPLE}, got {classes!r}")
    if not classes:
        raise ConfigError("classes is empty; name at least one, such as {'spleen': 1}")
    table = {str(name): _values(name, values) for name, values in classes.items()}
    uses = Counter(value for values in table.values() for value in values)
    shared = sorted(value for value, count in uses.items() if count > 1)
    if shared:
        raise ConfigError(f"classes: values {shared} belong to more than one class of {table}")
    if 0 in uses or any(not values for values in table.values()):
        raise ConfigError(f"classes {table}: each needs label values, and 0 is background")
    if label_values is not None and not uses.keys() <= set(label_values):
        raise ConfigError(f"classes {table} use values outside label_values {list(label_values)}")
    return table


def _values(name: object, values: Any) -> tuple[int, ...]:
    listed = _whole_numbers(values)
    if listed is None:
        raise ConfigError(
            f"classes: expected whole numbers as label values of {name!r}, got {values!r}. Write "
            f"{_CLASSES_EXAMPLE}."
        )
    return listed


def _whole_numbers(values: Any) -> tuple[int, ...] | None:
    """Return whole numbers as a tuple; ``None`` for anything else."""
    is_list = isinstance(values, Iterable) and not isinstance(values, str | Mapping)
    listed = tuple(values) if is_list else (values,)
    if not all(isinstance(value, Integral) and not isinstance(value, bool) for value in listed):
        return None
    return tuple(map(int, listed))
