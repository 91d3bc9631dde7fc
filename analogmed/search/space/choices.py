"""Remaining genes and their options."""

from collections.abc import Mapping
from typing import TypeAlias

from analogmed.search.space.space import Gene

Options: TypeAlias = Mapping[str, tuple[Gene, ...]]
"""Options of each gene."""

Option: TypeAlias = tuple[str, Gene]
"""A gene and one of its options."""
