"""The command that makes a corpus of simulated recordings to pre-train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuromoco.app.cli.command_group import AsJson, Quiet, app, show
from neuromoco.support.console import escape
from neuromoco.support.extras import need


@app.command()
def corpus(
    folder: Annotated[Path, typer.Option("--out", help="Folder to write to; an interrupted corpus goes on.")],
    recordings: Annotated[int, typer.Option(min=1, max=10_000_000, help="Number of recordings.")] = 20_000,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of pictures; repeatable. By default openclipart, Fashion-MNIST and digits."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="Seed for pictures, motions and cameras.")] = 0,
    smallest: Annotated[int, typer.Option(min=0, max=260, help="Fewest pixels of a sensor's side.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Number of processes.")] = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make recordings of pictures, cameras and motions that are drawn at random, to pre-train on.

    Example: neuromoco corpus --out corpus/ --recordings 20000 --jobs 2
    """
    need("train", "neuromoco corpus")
    from neuromoco.simulate.corpus import make_corpus
    from neuromoco.simulate.pictures import installed_pictures, pictures_in

    stencils = [pictures_in(place) for place in pictures] if pictures else installed_pictures()
    facts = make_corpus(folder, stencils, recordings, seed, smallest, jobs)
    counts = ", ".join(f"{name} {one['pictures']:,} ({one['licence']})" for name, one in facts["pictures"].items())
    line = f"{escape(str(folder))}: {recordings:,} recordings of pictures from {escape(counts)}, seed {seed}"
    show({"folder": str(folder), **facts}, as_json, lambda: line)
