"""Generated data sets, written in the layout of real ones."""
