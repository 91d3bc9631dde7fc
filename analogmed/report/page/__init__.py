"""The page of a run: sections, tables and images."""
