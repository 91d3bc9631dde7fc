"""analogmed: what is left of a medical segmentation network on an analog chip."""
