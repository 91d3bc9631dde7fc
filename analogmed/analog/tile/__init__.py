"""Reference model of one tile, in torch."""
