"""Evaluation: accuracy with labels; probes and maps of features without training."""
