"""The command line: every command registers itself with the app."""

from __future__ import annotations

from neuromoco.app.cli import datasets as data_commands
from neuromoco.app.cli import events as event_commands
from neuromoco.app.cli import export as export_commands
from neuromoco.app.cli import page as page_command
from neuromoco.app.cli import predict as model_commands
from neuromoco.app.cli import probe as probe_commands
from neuromoco.app.cli import server as serve_command
from neuromoco.app.cli import sweep as sweep_commands
from neuromoco.app.cli import training as training_commands
from neuromoco.app.cli.command_group import app

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
