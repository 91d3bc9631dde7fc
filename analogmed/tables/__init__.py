"""Tables of run folders."""
