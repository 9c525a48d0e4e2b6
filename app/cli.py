"""The command line: every command registers itself with the app."""

from __future__ import annotations

from neuromoco.app import export_commands, model_commands, training_commands
from neuromoco.app.commands import app

__all__ = ["app", "export_commands", "main", "model_commands", "training_commands"]


def main() -> None:
    """The command `neuromoco`."""
    app()
