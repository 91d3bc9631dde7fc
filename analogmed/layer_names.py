"""Which layers of a network a name or pattern means: the same for computing and for counting."""

from collections.abc import Collection, Iterable
from fnmatch import fnmatch

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest


def is_named(layer: str, patterns: Collection[str]) -> bool:
    """Whether a name or pattern means a layer, or a block that holds it.

    Args:
        layer: its whole name in the network.
        patterns: names, or patterns of :mod:`fnmatch`.

    Example:
        >>> [is_named("encoder1.conv1", [each]) for each in ("encoder1", "*.conv1", "conv1")]
        [True, True, False]
    """
    parts = layer.split(".")
    blocks = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    return any(fnmatch(block, pattern) for block in blocks for pattern in patterns)


def means_any(pattern: str, names: Iterable[str]) -> bool:
    """Whether a name or pattern means one of these layers and blocks."""
    return any(fnmatch(name, pattern) for name in names)


def refuse_unknown(setting: str, patterns: Iterable[str], names: Collection[str]) -> None:
    """Refuse a name or pattern that means no layer of a model.

    Args:
        setting: what gave the patterns, for the message.
        patterns: names, or patterns of :mod:`fnmatch`.
        names: of all layers and blocks of the model.

    Raises:
        ConfigError: names the pattern, and the nearest layer.
    """
    for pattern in patterns:
        if not means_any(pattern, names):
            raise ConfigError(
                f"{setting}: no layer of the model is called '{pattern}'; "
                f"{nearest(pattern, filter(None, names))}"
            )
