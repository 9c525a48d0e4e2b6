"""What all commands share: errors in one line, exit codes, JSON, and the check for extras."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperGroup

from neuromoco.errors import MissingExtraError, NeuromocoError

INTERRUPTED = 130


class Commands(TyperGroup):
    """Commands in which a user's mistake is one line and an exit code, and an interruption is 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NeuromocoError as error:
            if ctx.params["debug"]:
                raise
            complain(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:  # a disk that is full, a folder that may not be written
            if ctx.params["debug"] or error.filename is None:
                raise
            complain(NeuromocoError(f"{error.filename}: {error.strerror}"))
            raise typer.Exit(NeuromocoError.exit_code) from None


def need_training() -> None:
    """Says which extra to install where training is not installed.

    Raises:
        MissingExtraError: a package is missing.
    """
    if not all(
        find_spec(name)
        for name in ("torch", "torchvision", "spikingjelly", "accelerate", "scipy", "sklearn", "matplotlib")
    ):
        raise MissingExtraError("this command", "train")


def complain(error: NeuromocoError) -> None:
    """Prints an error as one line."""
    print(f"neuromoco: {error}", file=sys.stderr)


def print_json(value: Any, indent: int | None = 2) -> None:
    """Prints plain data; `indent=None` keeps it in one line."""
    print(json.dumps(value, indent=indent))
