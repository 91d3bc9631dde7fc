"""Synthetic data sets with known labels, in the layouts of real data sets."""
