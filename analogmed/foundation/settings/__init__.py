"""Settings classes: differences between those of two runs."""
