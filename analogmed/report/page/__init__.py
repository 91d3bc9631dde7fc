"""The page of a run: its sections, tables and pictures."""
