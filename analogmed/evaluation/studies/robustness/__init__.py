"""Robustness: scores of networks on chips over time."""
