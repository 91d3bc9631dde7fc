"""Signals over time: WFDB records, their leads on one time grid, and noise."""
