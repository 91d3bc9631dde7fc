"""Data sets, one module each: folder layout and the resulting task."""
