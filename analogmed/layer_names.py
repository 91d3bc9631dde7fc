"""Which layers of a network a name or pattern means: the same for computing and for counting."""

from collections.abc import Collection
from fnmatch import fnmatch


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
