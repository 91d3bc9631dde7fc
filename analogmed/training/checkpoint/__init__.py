"""Checkpoints: weights of a network and what is known of it, in one file."""
