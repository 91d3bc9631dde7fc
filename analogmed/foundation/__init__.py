"""Files, locks, settings and text: utilities independent of networks, chips and data."""
