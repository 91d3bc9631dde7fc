"""Kinds of task: what a network predicts, how it is trained, and how it is scored."""
