"""From a set's files to its samples: by a table of labels, and by windows of equal length."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import ReadingConfig, RecordingsConfig, load_settings
from neuromoco.datasets.extents import file_extents
from neuromoco.datasets.folders import SET_FILE, Listing, Span
from neuromoco.datasets.label_table import read_label_table
from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions
from neuromoco.events.occupied import SHORTEST_GAP_US, Extent
from neuromoco.support.console import say_once

MOST_SAMPLES = 10_000_000


def set_settings(root: Path, given: RecordingsConfig) -> RecordingsConfig:
    """How the recordings of a folder are read: as given, and where nothing is given, as its `recordings.yaml` says.

    Raises:
        ConfigError: the file is damaged, or has a name or a value that is not allowed.
    """
    file = root / SET_FILE
    return given.over(load_settings(RecordingsConfig, file)) if file.is_file() else given


def read_options(settings: RecordingsConfig, base: ReadOptions | None = None) -> ReadOptions:
    """Options for reading a file; those that are not given are those of `base`."""
    given = settings.given()
    return replace(base or ReadOptions(), **{f.name: given[f.name] for f in fields(ReadOptions) if f.name in given})


def stored_reading(options: ReadOptions) -> ReadingConfig:
    """What a checkpoint keeps of the options that its recordings were read with, for files that it is to answer for."""
    known = {name: getattr(options, name) for name in ReadingConfig.model_fields}
    return ReadingConfig(**known | {"sensor": options.sensor or options.default_sensor})


def list_labelled_parts(root: Path, settings: RecordingsConfig) -> Listing:
    """The parts of recordings that a table of labels names.

    Raises:
        ConfigError: the table is damaged, or names a file that is not there.
    """
    table = root / str(settings.labels)
    table = table if table.is_file() else Path(str(settings.labels))
    parts = read_label_table(table, settings.group)
    for part in parts:
        if not (root / part.file).is_file():
            raise ConfigError(f"{part.line} names {part.file}, which is not in {root}")
    names = {part.class_name for part in parts}
    class_names = sorted(names, key=int) if all(map(str.isdecimal, names)) else sorted(names)
    parts.sort(key=lambda part: (part.file, part.span or (0, 0)))
    spans = tuple(part.span for part in parts if part.span)
    listing = Listing(
        root,
        tuple(part.file for part in parts),
        tuple(class_names.index(part.class_name) for part in parts),
        tuple(class_names),
        spans,
        groups=tuple(part.group for part in parts if part.group is not None),
    )
    if twice := [name for name, following in pairwise(listing.names) if name == following]:
        raise ConfigError(f"{table}: {twice[0]} is there twice")
    if spans and len(spans) < len(parts):
        raise ConfigError(f"{table}: some lines have times, others none")
    return listing


def in_samples(listing: Listing, settings: RecordingsConfig) -> Listing:
    """A listing whose recordings are cut into windows, if the settings demand it; their times are those of the file.

    Parts at the end that are shorter than a window are left out, and so are windows without events.

    Raises:
        ConfigError: settings that do not go together, or no window fits.
    """
    _check(listing, settings)
    if settings.window is None and settings.label_times == "clock":
        return listing
    extents = file_extents(listing, whole=True)
    if settings.label_times == "start":
        shifts = {file: extent.first_us if extent else 0 for file, extent in extents.items()}
        parts = zip(listing.files, listing.spans, strict=True)
        listing = replace(listing, spans=tuple((a + shifts[file], b + shifts[file]) for file, (a, b) in parts))
    if settings.window is None:
        return listing
    return _windows(listing, settings.window, settings.stride or settings.window, extents)


def _check(listing: Listing, settings: RecordingsConfig) -> None:
    if settings.window is None and settings.stride is not None:
        raise ConfigError("--stride without --window; give the length of the samples, for example --window 500ms")
    if settings.window is not None and settings.window < SHORTEST_GAP_US:
        raise ConfigError(f"--window {settings.window}us: give {SHORTEST_GAP_US // 1000}ms or more")
    if settings.group is not None and settings.labels is None:
        raise ConfigError(f"--group {settings.group} names a column of a table of labels: give --labels TABLE.csv, too")
    if settings.label_times == "start" and not listing.spans:
        raise ConfigError("--label-times start, and there is no table with begin and end: give --labels TABLE.csv, too")


def _windows(listing: Listing, length: int, stride: int, extents: dict[str, Extent | None]) -> Listing:
    rows: list[int] = []
    spans: list[Span] = []
    short = silent = 0
    for row, file in enumerate(listing.files):
        extent = extents[file]
        if extent is None:  # damaged, as is said where it is read
            rows.append(row)
            spans.append((0, length))
            continue
        # A recording whose last event comes a little before its end has its last window, too.
        begin, end = listing.spans[row] if listing.spans else (extent.first_us, extent.last_us + 1 + length // 100)
        count = max(0, (end - begin - length) // stride + 1)
        if len(spans) + count > MOST_SAMPLES:
            raise ConfigError(f"{listing.root}: more than {MOST_SAMPLES:,} windows; give a longer --stride")
        short += not count
        begins = begin + stride * np.arange(count, dtype=np.int64)
        heard = begins[_has_events(begins, length, extent)].tolist()
        silent += count - len(heard)
        rows += [row] * len(heard)
        spans += [(a, a + length) for a in heard]
    if not spans:
        raise ConfigError(f"{listing.root}: no recording lasts as long as a window of {length / 1e6:g} s")
    if short or silent:
        left_out = f"{short:,} parts shorter than a window, and {silent:,} windows without events"
        say_once(f"{listing.root}: left out are {left_out}")
    found = replace(listing.only(rows), spans=tuple(spans))
    if missing := [name for label, name in enumerate(found.class_names) if label not in set(found.labels)]:
        raise ConfigError(f"{listing.root}: class {missing[0]} has no part as long as a window of {length / 1e6:g} s")
    return found


def _has_events(begins: NDArray[np.int64], length: int, extent: Extent) -> NDArray[np.bool_]:
    """Which windows, given their begin [N], have an event: those that do not lie within a gap."""
    edges = np.array([[-(1 << 62), extent.first_us], [extent.last_us, 1 << 62]])
    gaps = np.concatenate([edges[:1], extent.gaps, edges[1:]])
    gap = np.maximum(np.searchsorted(gaps[:, 0], begins) - 1, 0)  # the last one that begins before
    silent: NDArray[np.bool_] = (gaps[gap, 0] < begins) & (begins + length <= gaps[gap, 1])
    return ~silent
