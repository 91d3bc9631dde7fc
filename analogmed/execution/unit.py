"""A unit of long work: a piece whose result is stored under a key of all that it depends on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Unit:
    """A piece of work.

    Attributes:
        description: all that its result depends on; neither paths nor its place in the plan.
        title: what is computed, for people.
        passes: number of times that it processes all cases.
    """

    description: Mapping[str, Any] = field(repr=False)
    title: str
    passes: int

    @property
    def key(self) -> str:
        """Name of its result in the store."""
        return key_of(self.description)


def key_of(description: Mapping[str, Any]) -> str:
    """Hash of a unit's description, 32 hexadecimal digits."""
    return hashlib.sha256(canonical(description).encode()).hexdigest()[:32]


def canonical(description: Mapping[str, Any]) -> str:
    """A description as JSON that equal descriptions share."""
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
