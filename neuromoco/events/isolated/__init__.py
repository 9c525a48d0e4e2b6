"""Reads event files in a process of its own, which may crash, hang or run out of memory."""
