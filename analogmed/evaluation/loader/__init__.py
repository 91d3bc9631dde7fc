"""Robustness of a network on chips, from the network and a loader alone."""
