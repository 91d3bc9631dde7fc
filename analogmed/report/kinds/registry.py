"""Kinds of runs by name."""

from functools import cache
from importlib import import_module

from analogmed.report.kinds.kind import Kind

NAMES = (
    "evaluation",
    "uncertainty",
    "mitigation",
    "placement",
    "sensitivity",
    "training",
    "search",
    "hardware",
)
"""Names of all kinds, in the order in which a folder is compared with them.

The kind NAME is ``KIND`` in the module of this name.
"""


@cache
def kind_of(name: str) -> Kind:
    """Return the kind of a name."""
    kind = import_module(f"{__package__}.{name}").KIND
    assert isinstance(kind, Kind)
    return kind
