"""Number of torch's threads."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Set the number of torch's threads within a context, since it affects rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Use one of torch's threads, for results that do not depend on their number."""
    return threads(1)
