"""Neural architecture search for analog chips: space, supernetwork, strategies and ranking."""
