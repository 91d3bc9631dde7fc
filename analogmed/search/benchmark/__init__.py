"""Tabular benchmarks, and plugins for the tools of their authors."""
