"""The target nir: a NIR graph."""
