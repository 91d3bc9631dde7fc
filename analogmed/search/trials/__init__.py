"""Trials of a search: their queue, shared by processes through Optuna's storage."""
