"""Shared by all commands: the app, one-line errors, exit codes, options, JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import RenderableType
from typer.core import TyperGroup

from neuromoco import __version__
from neuromoco.errors import NeuromocoError
from neuromoco.support.console import PlainConsole, console, is_first_here, printable
from neuromoco.support.ending import Terminated, interrupt_on_request

INTERRUPTED = 130
# What JSON says that it is; schemas/ describes it. Keys may be added to a version, none may go or change its meaning.
EVALUATE, ERROR = "neuromoco/evaluate/1", "neuromoco/error/1"
# Typer has it, in one version as its own, in another as click's, and does not export it.
UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """Commands that report a user's mistake in one line with its exit code; interrupted, they end with code 130."""

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in [*ctx._protected_args, *ctx.args]
        interrupt_on_request()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a full disk is met here rather than when Python ends
            return result
        except NeuromocoError as error:
            if ctx.params["debug"]:
                raise
            _end(str(error), error.exit_code, as_json)
        except KeyboardInterrupt as request:
            raise typer.Exit(128 + request.signal if isinstance(request, Terminated) else INTERRUPTED) from None
        except UsageError as error:  # a name of a file may look like an option
            message = printable(error.format_message())
            if as_json:
                _print_error(message, error.exit_code)
            raise UsageError(message, error.ctx) from None
        except OSError as error:  # such as a folder without permission; of a full disk that takes the output, no name
            if ctx.params["debug"] or isinstance(error, BrokenPipeError) or not error.strerror:
                raise
            output = error.filename is None
            _end(
                f"{error.filename or 'the output'}: {error.strerror}", NeuromocoError.exit_code, as_json and not output
            )


def _end(message: str, exit_code: int, as_json: bool) -> NoReturn:
    """Ends the command with an error, which is a JSON object on standard output, too, if JSON was asked for."""
    complain(message)
    if as_json and is_first_here():
        _print_error(message, exit_code)
    raise typer.Exit(exit_code) from None


def _print_error(message: str, exit_code: int) -> None:
    print_json({"schema": ERROR, "error": message, "exit_code": exit_code}, indent=None)


app = typer.Typer(
    name="neuromoco",
    help="Unlabelled event-camera recordings in, a small spiking classifier out.",
    no_args_is_help=True,
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = PlainConsole(highlight=False, soft_wrap=True)


def _set_quiet(quiet: bool) -> None:
    console.quiet = quiet


Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Backend = Annotated[
    Literal["auto", "onnx", "torch", "loihi-sim"],
    typer.Option(help="What runs the model; auto picks it. loihi-sim is the integer twin of a Loihi export."),
]
Abstain = Annotated[
    float | None,
    typer.Option(help='Answer "unsure" so that of the answers at most this share is wrong, for example 0.05.'),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
# The callback does all; commands with this option need not look at its value.
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="No progress, only results and errors.")
]


Token = Annotated[
    str | None,
    typer.Option(
        envvar="NEUROMOCO_TOKEN",
        help="A secret to ask for: once as ?token=..., which leaves a cookie, or as Authorization: Bearer ...",
    ),
]
RootPath = Annotated[
    str, typer.Option(help="Where a proxy offers this: a path such as /events, or https://lab.example/events.")
]


@app.callback(invoke_without_command=True)
def common(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback if an error ends the command.")] = False,
) -> None:
    """Unlabelled event-camera recordings in, a small spiking classifier out."""
    if show_version:
        out.print(__version__)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        out.print(ctx.get_help())


def complain(error: NeuromocoError | str) -> None:
    """Prints an error as one line, once per machine if a launcher started several processes."""
    if is_first_here():
        print(printable(f"neuromoco: {error}"), file=sys.stderr)
    else:
        time.sleep(1)  # the launcher ends all processes when one ends; the first must have time to print


def print_json(value: Any, indent: int | None = 2) -> None:
    """Prints plain data as JSON; `indent=None` puts it in one line."""
    print(json.dumps(value, indent=indent))


def show(data: Any, as_json: bool, render: Callable[[], RenderableType]) -> None:
    """Prints data as JSON, or rendered for people."""
    if as_json:
        print_json(data)
    else:
        out.print(render())


def each_file(files: list[Path], work: Callable[[Path], None], as_json: bool) -> None:
    """Runs `work` on every file, even if some fail; the exit code is that of the last failure."""
    failed = 0
    for file in files:
        try:
            work(file)
        except NeuromocoError as error:
            failed = error.exit_code
            complain(error)
            if as_json:
                print_json({"file": str(file), "error": str(error), "exit_code": error.exit_code}, indent=None)
    if failed:
        raise typer.Exit(failed)
