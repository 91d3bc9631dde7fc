"""Compiled code of the engines for CPUs (numba)."""
