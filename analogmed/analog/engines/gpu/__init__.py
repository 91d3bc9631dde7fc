"""Compiled code of the engines for GPUs (Triton)."""
