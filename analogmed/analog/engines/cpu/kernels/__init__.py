"""Compiled loops of the numba engine, one file per kind of pass.

A file with a worker loads or compiles its machine code on import, which takes seconds the first
time. Therefore this file imports none of them, and the functions that a worker calls are defined
above it.
"""
