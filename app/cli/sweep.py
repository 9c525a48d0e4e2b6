"""The command that makes many runs from one file."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from neuromoco.app.cli.arguments import RUNS, free_folder
from neuromoco.app.cli.command_group import AsJson, Device, Quiet, app, out, print_json
from neuromoco.app.cli.tables import sweep_tables
from neuromoco.errors import NeuromocoError
from neuromoco.support.console import console
from neuromoco.support.extras import need
from neuromoco.sweep import Plan, list_sweeps, load_sweep


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(help=f"A .yaml file, or one of {', '.join(list_sweeps())}.")],
    data: Annotated[str | None, typer.Option(help="A folder or data set instead of the file's.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write, or where to go on; by default runs/sweeps/NAME-1, ...")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes; they share the cores.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and stop.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare settings over seeds and numbers of labels, in one folder.

    Interrupt it at any time; with the same file and --out it goes on.

    Example: neuromoco sweep momentum --jobs 2
    """
    console.quiet = quiet
    plan = load_sweep(file, data)
    if dry_run:
        _list_units(plan, as_json)
        return
    need("train")
    from neuromoco.app.cli.plots import draw_sweep
    from neuromoco.sweep.run import log, run_sweep

    place = folder or free_folder(RUNS / "sweeps" / plan.name)
    try:
        results = run_sweep(plan, place, jobs, device, partial(log, total=len(plan.units)))
    except KeyboardInterrupt:
        words = ["neuromoco", "sweep", file, *(["--data", data] if data else []), "--out", str(place)]
        print(f"neuromoco: interrupted; go on with it: {shlex.join(words)}", file=sys.stderr)
        raise
    draw_sweep(place / "accuracy.png", results)
    if as_json:
        print_json(results)
    else:
        for table in sweep_tables(results):
            out.print(table)
        out.print(f"all of it: {escape(str(place))}")
    if results["failed"]:
        first = results["failed"][0]
        raise NeuromocoError(f"{len(results['failed'])} failed, the first is {first['unit']}: {first['problem']}")


def _list_units(plan: Plan, as_json: bool) -> None:
    counts: dict[str, int] = {}
    for unit in plan.units:
        counts[unit.kind] = counts.get(unit.kind, 0) + 1
    if as_json:
        units: list[dict[str, Any]] = [{"unit": unit.name, "needs": unit.needs} for unit in plan.units]
        print_json({"name": plan.name, "units": units, "counts": counts})
        return
    for unit in plan.units:
        out.print(escape(unit.name))
    out.print(f"{len(plan.units)} in all: " + ", ".join(f"{number} {kind}" for kind, number in counts.items()))
