"""Sensitivity: loss of the primary metric per layer and noise source."""
