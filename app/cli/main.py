"""The command line: importing a module of commands registers them with the app."""

from __future__ import annotations

from neuromoco.app.cli import evaluate, events, export, fit, page, predict, probe, server, survey, sweep, training  # noqa: F401
from neuromoco.app.cli.command_group import app


def main() -> None:
    """The command `neuromoco`."""
    app()
