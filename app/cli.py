"""The command line: every command registers itself with the app."""

from __future__ import annotations

from neuromoco.app import (
    data_commands,
    event_commands,
    export_commands,
    model_commands,
    page_command,
    probe_commands,
    serve_command,
    sweep_commands,
    training_commands,
)
from neuromoco.app.commands import app

__all__ = [
    "app",
    "data_commands",
    "event_commands",
    "export_commands",
    "main",
    "model_commands",
    "page_command",
    "probe_commands",
    "serve_command",
    "sweep_commands",
    "training_commands",
]


def main() -> None:
    """The command `neuromoco`."""
    app()
