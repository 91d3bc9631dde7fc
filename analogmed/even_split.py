"""How a matrix is cut where a tile is too small for it: the same for computing and for counting."""

from itertools import accumulate, pairwise


def split_even(size: int, limit: int) -> tuple[int, ...]:
    """Cut into the fewest parts, which differ by at most one; the larger ones come first.

    Args:
        size: what is cut, 1 or more.
        limit: the largest part; 0 for no limit, as in aihwkit.

    Example:
        >>> split_even(10, 4), split_even(10, 0)
        ((4, 3, 3), (10,))
    """
    parts = -(-size // limit) if limit > 0 else 1
    base, larger = divmod(size, parts)
    return (base + 1,) * larger + (base,) * (parts - larger)


def even_bounds(size: int, limit: int) -> tuple[tuple[int, int], ...]:
    """Start and stop of each of these parts.

    Example:
        >>> even_bounds(10, 4)
        ((0, 4), (4, 7), (7, 10))
    """
    return tuple(pairwise(accumulate(split_even(size, limit), initial=0)))
