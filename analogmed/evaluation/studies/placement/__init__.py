"""Placement: which layers to leave digital."""
