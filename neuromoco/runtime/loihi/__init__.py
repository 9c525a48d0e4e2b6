"""A Loihi export computed without Lava: its file format, its blocks and their integer arithmetic."""
