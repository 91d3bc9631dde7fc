"""Placement: choice of the layers that stay digital."""
