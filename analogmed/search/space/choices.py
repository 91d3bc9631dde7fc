"""Genes that can still be chosen, and their options."""

from collections.abc import Mapping
from typing import TypeAlias

from analogmed.search.space.space import Gene

Options: TypeAlias = Mapping[str, tuple[Gene, ...]]
"""What each gene may be."""

Option: TypeAlias = tuple[str, Gene]
"""A gene, and what it may be."""
