"""Tests of neuromoco.export.chips."""
