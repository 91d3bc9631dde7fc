"""Data sets, one file each: how their folders are laid out, and the task that they give."""
