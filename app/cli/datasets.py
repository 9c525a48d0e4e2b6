"""The command on data sets: download."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from neuromoco.app.cli.command_group import Quiet, app, out
from neuromoco.support.console import console


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A published set, such as n-mnist; any other word lists them.")],
    quiet: Quiet = False,
) -> None:
    """Download a published data set to where --data NAME looks for it: data/NAME, or $NEUROMOCO_DATA/NAME.

    Example: neuromoco download n-mnist
    """
    from neuromoco.datasets.downloads import download as fetch
    from neuromoco.datasets.named import set_folder

    console.quiet = quiet
    done = "is now in" if fetch(name) else "is already in"
    out.print(f"{name}: {done} {escape(str(set_folder(name)))}; neuromoco train --data {name}")
