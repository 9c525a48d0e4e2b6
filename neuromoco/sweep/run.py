"""Runs a sweep in one folder, from which it resumes after any interruption.

sweep.json     the sweep, its recipe, and hashes of names and content of the recordings
units/         a folder for each unit: a run folder or a measurement, complete once it holds result.json
results.json   the result of each unit, and the tables
table.md       the tables
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuromoco.datasets import list_data, read_recordings
from neuromoco.datasets.folders import Part
from neuromoco.errors import ConfigError
from neuromoco.support.console import console, printable
from neuromoco.support.files import read_json, write_json, write_text
from neuromoco.sweep.plan import Plan
from neuromoco.sweep.summary import markdown, summarize, unit_title
from neuromoco.sweep.workers import Outcome, WorkerOptions, run_units

CONTENT = "content_sha256"


def run_sweep(
    plan: Plan,
    out: Path,
    jobs: int = 1,
    device: str = "auto",
    done: Callable[[int, Outcome], None] = lambda number, outcome: None,
) -> dict[str, Any]:
    """Runs all units that are not complete yet and summarises the results.

    The folder `out` is new, empty, or one in which the same sweep was started. The processes share the threads, whose
    number affects rounding. `done` is called after each unit with the number of units so far and the outcome.

    Returns:
        The content of `results.json`; "failed" lists the units that failed, with the reason.

    Raises:
        ConfigError: the folder holds something else, or recordings are missing, or others than at its start.
        DiskError: the disk is full, read-only or gone; the same call resumes the sweep.
        EventFileError: a recording cannot be read.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}; give 1 or more")
    _begin(plan, out)
    outcomes = {}
    for number, outcome in enumerate(run_units(plan.units, WorkerOptions(out, plan.sweep.test, device), jobs), 1):
        outcomes[outcome.unit.name] = outcome
        done(number, outcome)
    results = summarize(plan, [outcomes[unit.name] for unit in plan.units if unit.name in outcomes])
    write_json(out / "results.json", results)
    write_text(out / "table.md", markdown(results))
    return results


def log(number: int, outcome: Outcome, total: int) -> None:
    """Prints the outcome of a unit."""
    if outcome.result is None:
        text = printable(f"failed: {outcome.problem}")
    elif "accuracy" in outcome.result:
        text = f"{outcome.result['accuracy']:.1%}"
    else:
        text = f"loss {outcome.result['loss']:.3f}"
    console.print(f"{number:>4}/{total}  {unit_title(outcome.unit)}: {text}", soft_wrap=True, markup=False)


def _begin(plan: Plan, out: Path) -> None:
    """Checks that the folder is free or holds the same sweep, makes the frames and writes `sweep.json`."""
    sets: list[tuple[str, Part]] = [(plan.base.labelled_data, "train")]
    if plan.sweep.folds is None:
        sets.append((plan.sweep.test or plan.base.labelled_data, "test"))
    names = [(data, part, list_data(data, part, recordings=plan.base.recordings).names) for data, part in sets]
    digest = hashlib.sha256(repr(names).encode("utf-8", "surrogateescape")).hexdigest()
    content = json.loads(json.dumps({**plan.to_json(), "recordings_sha256": digest}))
    file, known = out / "sweep.json", None
    if file.is_file():
        before = read_json(file)
        known = before.pop(CONTENT, None)
        if changed := difference(before, content):
            advice = "restore the sweep's file, or give another --out"
            raise ConfigError(f"{out}: holds a sweep with another {changed}; {advice}")
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"{out}: holds something other than a sweep; give another --out")
    keys = hashlib.sha256()
    for frames in dict.fromkeys(unit.config.frames for unit in plan.units):  # before several processes need them
        for data, part in sets:
            keys.update(read_recordings(data, frames, part, True, plan.base.recordings).store.keys.tobytes())
    if known not in (None, keys.hexdigest()):  # older versions did not write it
        advice = "restore the recordings, or give another --out"
        raise ConfigError(f"{out}: the content of recordings has changed since this sweep was started; {advice}")
    write_json(file, content | {CONTENT: keys.hexdigest()})


def difference(before: Any, now: Any, where: str = "") -> str | None:
    """The name of the first setting that differs between two trees, and both values; None if none does."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else f"{where} ({before!r} before, {now!r} now)"
    if list(before) != list(now):
        return f"{where or 'content'} ({', '.join(before)} before, {', '.join(now)} now)"
    differences = (difference(before[name], now[name], f"{where}.{name}".strip(".")) for name in before)
    return next(filter(None, differences), None)
