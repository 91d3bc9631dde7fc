"""Architectures that survive the chip: the space, the supernetwork, strategies, ranking."""
