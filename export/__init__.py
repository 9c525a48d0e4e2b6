"""Exporters: a trained encoder leaves torch through this package."""
