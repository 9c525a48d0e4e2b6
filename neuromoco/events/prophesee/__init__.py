"""Prophesee's DAT and RAW files."""
