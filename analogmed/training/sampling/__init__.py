"""Training patches: sampling plan, caching of cases and augmentation."""
