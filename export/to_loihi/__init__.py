"""The target loihi: a folder for Lava."""
