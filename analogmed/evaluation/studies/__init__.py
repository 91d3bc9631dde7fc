"""Studies of networks on chips, with their result tables."""
