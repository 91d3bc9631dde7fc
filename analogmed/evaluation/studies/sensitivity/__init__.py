"""Sensitivity: which layers and noise sources cost how much."""
