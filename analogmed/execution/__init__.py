"""Execution of long runs: executors, the code that a result depends on, locked run folders."""
