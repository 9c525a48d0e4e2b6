"""The command line: importing a module of commands registers them with the app."""

from __future__ import annotations

from neuromoco.app.cli import (
    chips,
    corpus,
    evaluate,
    events,
    export,
    fit,
    live,
    page,
    predict,
    probe,
    publish,
    server,
    survey,
    sweep,
    training,
)
from neuromoco.app.cli.command_group import app


def main() -> None:
    """The command `neuromoco`."""
    app()
