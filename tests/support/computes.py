"""Computes of units that workers can import."""

import os


def environment_of(name):
    """Return a compute whose value is a variable of the environment."""
    return lambda unit, step: os.environ.get(name)
