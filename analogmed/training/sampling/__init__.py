"""Training patches: which, from where, cached and augmented."""
