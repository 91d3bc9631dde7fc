"""Seeds of the chips of a sweep."""

from analogmed.foundation.seeds import derive_seed


def chip_seed(root: int, model: str, number: int) -> int:
    """Return the seed of a chip, which does not depend on the training of the network.

    All trainings of a model are therefore compared on the same chips.
    """
    return derive_seed(root, model, "chip", number)
