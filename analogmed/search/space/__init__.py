"""Search space: genotypes, genes, and sizes of networks."""
