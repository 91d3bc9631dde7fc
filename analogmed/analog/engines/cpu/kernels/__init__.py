"""Compiled loops of the numba engine, one file for each kind of pass.

A file with a worker loads or compiles its machine code when it is imported, which takes seconds for
the first time; so this one imports none of them, and what a worker calls stands above it.
"""
