"""Sensitivity: Dice drop per layer and noise source."""
