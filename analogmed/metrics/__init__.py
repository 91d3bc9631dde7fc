"""Metrics of a case: scores of a prediction against its reference."""
