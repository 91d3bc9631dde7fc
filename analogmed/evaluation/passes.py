"""Chips of a sweep, by their seeds."""

from analogmed.foundation.seeds import derive_seed


def chip_seed(root: int, model: str, number: int) -> int:
    """Seed of a chip: it has the same devices, however the network was trained that it gets.

    Two trainings of a model are therefore compared on the same chips.
    """
    return derive_seed(root, model, "chip", number)
