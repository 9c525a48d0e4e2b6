"""Settles once for a set what its files do not say: the sensor, and the part of it that is used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from neuromoco.config import FrameConfig
from neuromoco.config.frames import Crop
from neuromoco.datasets.extents import file_extents
from neuromoco.datasets.folders import Listing
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import ReadOptions
from neuromoco.events.occupied import Counts, Extent, common_sensor, occupied, summed
from neuromoco.support.console import say_once

SensorSize = tuple[int, int]
MOST_SHOWN = 4  # sensors in a message


def settle(listing: Listing, frames: FrameConfig) -> tuple[Listing, FrameConfig]:
    """A listing with one sensor for all files that do not name theirs, and frames; the crops of both are in pixels.

    What is settled is said. Files that cannot be read count for nothing; they are reported where they are needed.

    Raises:
        ConfigError: files name several sensors and others none, or a crop that has no meaning for them.
        EventFileError: the events reach beyond every camera.
    """
    crops = "activity" in (frames.crop, listing.crop)
    if crops or not (listing.options.sensor or listing.options.default_sensor):
        extents = [extent for extent in file_extents(listing, whole=crops).values() if extent is not None]
        if extents:
            listing = _with_sensor(listing, extents)
            if crops:
                crop = _occupied(listing, extents)
                if listing.crop == "activity":
                    listing = replace(listing, crop=crop)
                if frames.crop == "activity":
                    frames = frames.model_copy(update={"crop": crop})
    return listing, frames


def settle_files(files: Sequence[Path], options: ReadOptions, crop: Crop) -> tuple[ReadOptions, Crop]:
    """Options for reading files one by one, and their crop in pixels: "activity" is settled once for all of them.

    Raises:
        ConfigError, EventFileError: as `settle`.
    """
    if crop != "activity":
        return options, crop
    whole = [file.absolute() for file in files]
    root = Path(os.path.commonpath([file.parent for file in whole]))
    names = tuple(file.relative_to(root).as_posix() for file in whole)
    listing, _ = settle(Listing(root, names, options=options, crop=crop), FrameConfig())
    return listing.options, None if listing.crop == "activity" else listing.crop  # no file can be read


def _with_sensor(listing: Listing, extents: Sequence[Extent]) -> Listing:
    if listing.options.sensor or listing.options.default_sensor:
        return listing
    named = Counter(extent.sensor for extent in extents if extent.sensor)
    unnamed = [extent for extent in extents if not extent.sensor]
    if len(named) > 1 and unnamed:
        raise ConfigError(
            f"{listing.root}: {len(unnamed):,} files do not name their sensor, and the others name {_shown(named)}; "
            "give --sensor WIDTHxHEIGHT, or use one kind of files"
        )
    if len(named) > 1:
        say_once(f"{listing.root}: several sensors, all scaled to the same frames: {_shown(named)}")
    if not unnamed:
        return listing
    if named:
        (sensor,) = named
        say_once(f"{listing.root}: {len(unnamed):,} files do not name their sensor; all others are {_size(sensor)}")
    else:
        sensor = _common(listing, unnamed)
    defaults = replace(listing.options.defaults or ReadOptions(), sensor=sensor)
    return replace(listing, options=replace(listing.options, defaults=defaults))


def _common(listing: Listing, unnamed: Sequence[Extent]) -> SensorSize:
    try:
        sensor, outside = common_sensor(unnamed)
    except EventFileError as error:
        raise EventFileError(f"{listing.root}: {error}") from None
    but = f", but for {outside:,} far from all others" if outside else ""
    say_once(
        f"{listing.root}: no file names its sensor; all are read as {_size(sensor)}, which holds all events{but} (or "
        "give --sensor WIDTHxHEIGHT)"
    )
    return sensor


def _occupied(listing: Listing, extents: Sequence[Extent]) -> tuple[int, int, int, int]:
    options = listing.options
    sensors = {options.sensor or extent.sensor or options.default_sensor for extent in extents}
    if len(sensors) > 1 or None in sensors:
        raise ConfigError(f"{listing.root}: crop by activity, and files of several sensors; give --crop X,Y,W,H")
    width, height = sensors.pop() or (0, 0)
    x, w = _part(summed([extent.columns for extent in extents]), width, "x" in (options.flip or ""))
    y, h = _part(summed([extent.rows for extent in extents]), height, "y" in (options.flip or ""))
    say_once(f"{listing.root}: cropped to the part where the events lie: --crop {x},{y},{w},{h} of {width} x {height}")
    return x, y, w, h


def _part(counts: Counts, side: int, flipped: bool) -> tuple[int, int]:
    first, length = occupied(counts[:side])
    return (side - first - length if flipped else first), length


def _size(sensor: SensorSize) -> str:
    return f"{sensor[0]} x {sensor[1]}"


def _shown(named: Counter[SensorSize]) -> str:
    words = [f"{_size(sensor)} ({count:,})" for sensor, count in named.most_common(MOST_SHOWN)]
    return ", ".join(words) + (", ..." if len(named) > MOST_SHOWN else "")
