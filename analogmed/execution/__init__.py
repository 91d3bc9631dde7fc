"""Execution of long runs: which code a result depends on, run folders and their locks."""
