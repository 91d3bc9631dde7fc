"""Sensitivity: loss of Dice by layer and noise source."""
