"""A whole sweep in one folder, which is gone on with after any interruption.

sweep.json     what is asked for, of which recordings
units/         a folder for each unit: an ordinary run folder, or a measurement; with result.json it is done
results.json   every unit's figure, and the table
table.md       the table
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from neuromoco.datasets import list_data, read_recordings
from neuromoco.datasets.folders import Part
from neuromoco.errors import ConfigError
from neuromoco.support.console import console
from neuromoco.support.files import read_json, write_json, write_text
from neuromoco.sweep.plan import Plan
from neuromoco.sweep.summary import markdown, summarize, unit_words
from neuromoco.sweep.workers import Outcome, Setup, do_units


def run_sweep(
    plan: Plan,
    out: Path,
    jobs: int = 1,
    device: str = "auto",
    done: Callable[[int, Outcome], None] = lambda number, outcome: None,
) -> dict[str, Any]:
    """Does what is left to do, and sums up.

    Args:
        plan: the sweep.
        out: its folder: new, empty, or one in which the same sweep was begun.
        jobs: processes. Each has its share of the threads; with another number of threads, sums are rounded otherwise.
        device: "auto", "cpu" or "cuda".
        done: told each unit as it is done, and how many are.

    Returns:
        What `results.json` holds. Units that failed are under "failed", with the reason.

    Raises:
        ConfigError: the folder holds something else, or recordings are not there.
        EventFileError: a recording cannot be read.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}; give 1 or more")
    _begin(plan, out)
    outcomes = []
    for number, outcome in enumerate(do_units(plan.units, Setup(out, plan.sweep.test, device), jobs), 1):
        outcomes.append(outcome)
        done(number, outcome)
    place = {unit.name: number for number, unit in enumerate(plan.units)}
    outcomes.sort(key=lambda outcome: place[outcome.unit.name])
    results = summarize(plan, outcomes)
    write_json(out / "results.json", results)
    write_text(out / "table.md", markdown(results))
    return results


def log(number: int, outcome: Outcome, total: int) -> None:
    """Shows a unit that is done."""
    result = outcome.result or {}
    figure = f"{result['accuracy']:.1%}" if "accuracy" in result else f"loss {result.get('loss', float('nan')):.3f}"
    words = f"failed: {outcome.problem}" if outcome.problem else figure
    console.print(f"{number:>4}/{total}  {unit_words(outcome.unit)}: {words}", soft_wrap=True, markup=False)


def _begin(plan: Plan, out: Path) -> None:
    """Makes the frames and writes `sweep.json`, or compares with the one that is there."""
    asked = {**plan.to_json(), "recordings_sha256": _recordings(plan)}
    file = out / "sweep.json"
    if file.is_file():
        changed = _difference(read_json(file), json.loads(json.dumps(asked)))
        if changed:
            raise ConfigError(
                f"{out}: holds a sweep with another {changed}; go on with the file as it was, or give another --out"
            )
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"{out}: holds something that is no sweep; give another --out")
    _make_frames(plan)
    write_json(file, asked)


def _listings(plan: Plan) -> Iterator[tuple[str, Part]]:
    """What is trained on, and what is measured on where that is no fold of it."""
    yield plan.base.labelled_data, "train"
    if plan.sweep.folds is None:
        yield plan.sweep.test or plan.base.labelled_data, "test"


def _make_frames(plan: Plan) -> None:
    """Makes all frames, before several processes want them at once."""
    for frames in dict.fromkeys(unit.config.frames for unit in plan.units):
        for data, part in _listings(plan):
            read_recordings(data, frames, part, labelled=True)


def _recordings(plan: Plan) -> str:
    names = [(data, part, list_data(data, part).names) for data, part in _listings(plan)]
    return hashlib.sha256(repr(names).encode("utf-8", "surrogateescape")).hexdigest()


def _difference(before: Any, now: Any, where: str = "") -> str | None:
    """The name of the first setting that is not as before, and both values."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else f"{where} ({before!r} before, {now!r} now)"
    if list(before) != list(now):
        return f"{where or 'content'} ({', '.join(before)} before, {', '.join(now)} now)"
    found = (_difference(before[name], now[name], f"{where}.{name}".strip(".")) for name in before)
    return next((difference for difference in found if difference), None)
