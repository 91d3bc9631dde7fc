"""Programmed devices: programming noise, drift, read noise and drift compensation."""
