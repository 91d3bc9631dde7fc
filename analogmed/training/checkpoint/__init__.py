"""Checkpoints: the weights of a network and its description, in one file."""
