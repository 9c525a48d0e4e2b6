"""How good a network is: accuracy with labels, probes and maps of its features without."""
