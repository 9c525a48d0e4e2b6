"""The command that runs a sweep."""

from __future__ import annotations

import shlex
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group

from neuromoco.app.cli.arguments import RUNS, crop_in, free_folder
from neuromoco.app.cli.command_group import AsJson, Device, Quiet, app, complain, show
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.recordings import READING, SAMPLES, takes_recordings, words_of
from neuromoco.app.cli.tables import sweep_tables
from neuromoco.config import RecordingsConfig
from neuromoco.errors import NeuromocoError
from neuromoco.support.console import escape
from neuromoco.support.extras import need
from neuromoco.sweep import Plan, list_sweeps, load_sweep


@app.command()
@takes_recordings(READING | SAMPLES)
def sweep(
    file: Annotated[str, typer.Argument(help=f"A .yaml file, or one of {', '.join(list_sweeps())}.")],
    data: Annotated[str | None, typer.Option(help="A folder or data set to use instead of the file's.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to or to resume; by default runs/sweeps/NAME-1, ...")
    ] = None,
    crop: CropWord = None,
    jobs: Annotated[int, typer.Option(help="Number of processes; they share the cores.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and stop.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Compare settings over seeds and numbers of labels, in one folder.

    You can interrupt it at any time; the same file and --out resume it.

    Example: neuromoco sweep momentum --jobs 2
    """
    plan = load_sweep(file, data, recordings, crop_in(crop))
    if dry_run:
        _list_units(plan, as_json)
        return
    need("train")
    from neuromoco.app.cli.plots import draw_sweep
    from neuromoco.sweep.run import log, run_sweep

    folder = folder or free_folder(RUNS / "sweeps" / plan.name)
    try:
        results = run_sweep(plan, folder, jobs, device, partial(log, total=len(plan.units)))
    except KeyboardInterrupt:
        words = ["neuromoco", "sweep", file, *(["--data", data] if data else []), *words_of(recordings)]
        words += [*(["--crop", crop] if crop else []), "--out", str(folder)]
        complain(f"interrupted; to resume: {shlex.join(words)}")
        raise
    draw_sweep(folder / "accuracy.png", results)
    show(results, as_json, lambda: Group(*sweep_tables(results), f"all results: {escape(str(folder))}"))
    if results["failed"]:
        first = results["failed"][0]
        raise NeuromocoError(f"{len(results['failed'])} failed, the first is {first['unit']}: {first['problem']}")


def _list_units(plan: Plan, as_json: bool) -> None:
    counts = Counter(unit.kind for unit in plan.units)
    units = [{"unit": unit.name, "needs": unit.needs} for unit in plan.units]
    total = f"{len(units)} in total: " + ", ".join(f"{number} {kind}" for kind, number in counts.items())
    facts = {"name": plan.name, "units": units, "counts": counts}
    show(facts, as_json, lambda: "\n".join([*(escape(unit.name) for unit in plan.units), total]))
