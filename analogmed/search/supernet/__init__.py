"""Supernetworks: training with shared weights, and what it says of blocks."""
