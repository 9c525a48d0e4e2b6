"""Where and when the events of all files of a set lie; found once for each file, and kept by its content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuromoco.datasets.folders import Listing
from neuromoco.datasets.keys import file_keys
from neuromoco.datasets.notes import known_notes, write_notes
from neuromoco.datasets.prepare import read_files
from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions
from neuromoco.events.occupied import Extent
from neuromoco.events.reader import recording_extent
from neuromoco.support.console import track

EXTENTS_VERSION = 1  # raise it whenever readers find other events in the same file
KEPT_AT_ONCE = 256  # files


class ExtentJob(NamedTuple):
    """A file to measure."""

    path: Path
    options: ReadOptions
    whole: bool


def file_extents(listing: Listing, whole: bool) -> dict[str, Extent | None]:
    """The extent of each file of a listing; None for a file that cannot be read.

    Files that name their sensor are read only if `whole`; without it, times and places of their events are not known.
    """
    keys = file_keys(listing, "extent", EXTENTS_VERSION, whole)
    known = known_notes(keys.values())
    found: dict[str, Extent | None]
    found = {file: _from_plain(known[key]) for file, key in keys.items() if key in known}
    missing = [file for file in keys if file not in found]
    jobs = [ExtentJob(listing.root / file, listing.options, whole) for file in missing]
    results: Iterator[Extent | None] = read_files(_extent, jobs, [job.path for job in jobs], lambda job, reason: None)
    unkept: dict[bytes, Any] = {}
    for file, extent in zip(track(missing, "looking at recordings"), results, strict=True):
        found[file] = extent
        if extent is not None:
            unkept[keys[file]] = _as_plain(extent)
        if len(unkept) >= KEPT_AT_ONCE:
            write_notes(unkept)
            unkept = {}
    if unkept:
        write_notes(unkept)
    return {file: found[file] for file in keys}


def _extent(job: ExtentJob) -> Extent | None:
    try:
        return recording_extent(job.path, job.options, job.whole)
    except EventFileError:  # is reported where the file is needed
        return None


def _as_plain(extent: Extent) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(extent).items()}


def _from_plain(note: dict[str, Any]) -> Extent:
    columns, rows, gaps = (np.array(note[name], np.int64) for name in ("columns", "rows", "gaps"))
    likely = tuple((width, height) for width, height in note["likely"])
    sensor = (note["sensor"][0], note["sensor"][1]) if note["sensor"] else None
    return Extent(sensor, likely, note["first_us"], note["last_us"], columns, rows, gaps.reshape(-1, 2))
