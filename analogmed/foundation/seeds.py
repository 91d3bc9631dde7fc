"""The seed tree: every random draw has an address, which alone determines its seed."""

import hashlib

import numpy as np


def derive_seed(root: int, *path: object) -> int:
    """Return the seed of the draw at an address below a root seed.

    The address identifies the draw, for instance ``("chip", 3, "time", 86400.0, "read", 0)``.
    Neither the order of the work nor the number of workers changes the result.

    Args:
        root: seed of the whole experiment.
        *path: parts of the address, identified by their ``repr``. A numpy scalar counts as the
            equal Python number or text.

    Returns:
        int in [0, 2**63), for ``torch.Generator.manual_seed`` (whose CPU generator keeps 32 bits
        of it) and ``numpy.random.default_rng``.
    """
    parts = (part.item() if isinstance(part, np.generic) else part for part in path)
    address = "/".join([str(int(root)), *map(repr, parts)])
    digest = hashlib.blake2b(address.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
