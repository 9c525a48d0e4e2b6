"""Checkpoints by name: those that ship with the package, and those on the Hugging Face Hub."""
