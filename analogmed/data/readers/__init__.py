"""Readers of files: NIfTI volumes, PNG and TIFF images."""
