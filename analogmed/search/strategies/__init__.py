"""The search strategies that come with analogmed, each behind its name in ``strategy.py``."""
