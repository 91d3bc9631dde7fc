"""Definition of what one tile computes, in torch."""
