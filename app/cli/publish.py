"""The command that uploads a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuromoco.app.cli.command_group import AsJson, Quiet, app, show
from neuromoco.support.console import escape
from neuromoco.support.extras import need


@app.command()
def push(
    model: Annotated[Path, typer.Argument(help="A run, a checkpoint, or a name of `neuromoco models`.")],
    place: Annotated[str, typer.Argument(help="hf://owner/name, a repository that is yours; made if missing.")],
    card: Annotated[
        Path | None, typer.Option(help="A Markdown file for its README; by default one is written.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a repository that only its owner sees.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Upload a checkpoint and its card to the Hugging Face Hub. Log in first: hf auth login.

    Example: neuromoco push runs/pre hf://me/my-encoder
    """
    need("hub")
    from neuromoco.hub.push import push as upload

    facts = upload(model, place, card=card, private=private)
    use = f"neuromoco train --init hf://{facts['repository']} --data FOLDER"
    show(facts, as_json, lambda: f"{escape(facts['url'])}; to use it: {escape(use)}")
