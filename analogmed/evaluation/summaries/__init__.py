"""Summaries of a results table: per network, over time, between networks."""
