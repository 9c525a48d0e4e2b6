"""What all commands share: the app, errors in one line, exit codes, options, JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperGroup

from neuromoco import __version__
from neuromoco.errors import NeuromocoError
from neuromoco.support.console import is_first_here

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


app = typer.Typer(
    name="neuromoco",
    help="Unlabelled event-camera recordings in, a small spiking classifier out.",
    no_args_is_help=True,
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console(highlight=False, soft_wrap=True)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Backend = Annotated[
    Literal["auto", "onnx", "torch", "loihi-sim"],
    typer.Option(help="What computes; auto goes by the model. loihi-sim is the integer twin of a Loihi export."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]


@app.callback(invoke_without_command=True)
def common(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error that ends the command.")
    ] = False,
) -> None:
    """Unlabelled event-camera recordings in, a small spiking classifier out."""
    if show_version:
        out.print(__version__)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        out.print(ctx.get_help())


def complain(error: NeuromocoError | str) -> None:
    """Prints an error as one line, once a machine where a launcher started several processes."""
    if is_first_here():
        print(f"neuromoco: {error}", file=sys.stderr)
    else:
        time.sleep(1)  # the launcher ends all processes after the first; the one that talks must come to it


def print_json(value: Any, indent: int | None = 2) -> None:
    """Prints plain data; `indent=None` keeps it in one line."""
    print(json.dumps(value, indent=indent))


def each_file(files: list[Path], work: Callable[[Path], None], as_json: bool) -> None:
    """Does every file, whatever becomes of the others; the exit code is that of the last that failed."""
    failed = 0
    for file in files:
        try:
            work(file)
        except NeuromocoError as error:
            failed = error.exit_code
            complain(error)
            if as_json:
                print_json({"file": str(file), "error": str(error)}, indent=None)
    if failed:
        raise typer.Exit(failed)
