"""Uncertainty of classified images."""
