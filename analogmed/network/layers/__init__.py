"""Layers that tiles compute, as weight matrices, and layers that declare their products."""
