"""Studies: what is run on chips, and the tables that it gives."""
