"""Unit of work, whose result is stored under a key of everything that it depends on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Unit:
    """Unit of work.

    Attributes:
        description: everything that the result depends on, without paths and position in the plan.
        title: readable name of the unit.
        passes: number of passes over all cases.
    """

    description: Mapping[str, Any] = field(repr=False)
    title: str
    passes: int

    @property
    def key(self) -> str:
        """Name of the result in the store."""
        return key_of(self.description)


def key_of(description: Mapping[str, Any]) -> str:
    """Return the hash of a unit's description, 32 hexadecimal digits."""
    return hashlib.sha256(canonical(description).encode()).hexdigest()[:32]


def canonical(description: Mapping[str, Any]) -> str:
    """Return a description as JSON that is the same for equal descriptions."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
