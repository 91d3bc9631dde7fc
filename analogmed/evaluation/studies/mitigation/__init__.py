"""Mitigation: corrections of a chip after programming."""
