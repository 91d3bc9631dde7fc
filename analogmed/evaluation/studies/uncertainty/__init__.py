"""Uncertainty of networks on chips: maps, calibration, conformal masks."""
