"""The command that downloads data sets."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from neuromoco.app.cli.command_group import Quiet, app, out


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A published data set, such as n-mnist; an unknown name lists them.")],
    quiet: Quiet = False,
) -> None:
    """Download a published data set to where --data NAME finds it: data/NAME, or $NEUROMOCO_DATA/NAME.

    Example: neuromoco download n-mnist
    """
    from neuromoco.datasets.downloads import download as fetch
    from neuromoco.datasets.named import set_folder

    state = "is now in" if fetch(name) else "is already in"
    out.print(f"{name}: {state} {escape(str(set_folder(name)))}; neuromoco train --data {name}")
