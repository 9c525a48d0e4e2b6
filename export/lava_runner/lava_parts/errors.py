"""What run_lava.py answers in one line."""

from __future__ import annotations


class UnusableFileError(Exception):
    """A file that is missing, damaged, or does not belong to the others."""


class LavaFailedError(Exception):
    """A part of the network died, or nothing moves any more."""
