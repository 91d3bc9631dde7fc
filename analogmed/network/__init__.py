"""Tools for any torch network: its layers, weights, products, copies and predictions."""
