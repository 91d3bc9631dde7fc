"""Seeding of code that draws from torch's global generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let torch's global generator draw from ``seed`` inside; afterwards it is as it was.

    aihwkit's noise models and tiles know no other source of random numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
