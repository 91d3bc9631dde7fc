"""Kinds of runs: what identifies, summarises and shows each of them."""
