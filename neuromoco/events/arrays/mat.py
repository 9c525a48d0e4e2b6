"""MATLAB `.mat`: variables of events, also in structures such as the `TD` of ATIS and N-MNIST tools. Needs scipy.

Files of MATLAB 7.3 are HDF5. MATLAB stores whole numbers as floating-point numbers by default: times that are all whole
are microseconds in whatever type, others are seconds.

Files with variables of exactly the names ts, x, y, pol are ASL-DVS (Bi et al. 2019): a DAVIS240C, 240 x 180, whose rows
MATLAB's jAER tools count from the bottom, as tonic's reader assumes too; they are flipped. Under other names, and in
structures, rows count from the top.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.errors import EventFileError, MissingExtraError
from neuromoco.events.arrays.stored import Stored, find_events, held
from neuromoco.events.columns import shown
from neuromoco.events.hdf5.events import has_signature, raw_hdf5
from neuromoco.events.hdf5.layout import Sides
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import PIECE, Columns, EventStream, damage, starts_with
from neuromoco.events.tidy import Order, tidy

FORMAT = "MATLAB .mat"
MAGIC_5, MAGIC_7 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"
ASL_DVS = ("ts", "x", "y", "pol")
ASL_DVS_SENSOR = (240, 180)
DEEPEST = 4  # structures in structures

looks_like_mat = starts_with(MAGIC_5, MAGIC_7)


def open_mat(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; time unit and sensor in `options` overrule those of ASL-DVS."""
    with path.open("rb") as file:
        head = file.read(4000)
    sides: Sides
    order: Order
    if has_signature(head):
        sides, source, pieces = raw_hdf5(path, options)
        blocks = source.count / PIECE
        titles = tuple(place.removeprefix("/") for place in source.paths)
        unit, order = source.unit, source.order
    else:
        found = find_events(_variables(path), options)
        blocks = found.blocks
        sides, titles, pieces = options.sensor or (None, None), found.titles, found.pieces()
        unit, order = found.unit, found.order
        titles = tuple(f"{found.place}/{title}" if found.place else title for title in titles)
    tidied = tidy(pieces, options.unit(unit), whole="us", order=order)
    if titles == ASL_DVS:
        sides = options.sensor or ASL_DVS_SENSOR
        tidied = _flipped(tidied, sides[1])
    return EventStream(FORMAT, tidied, *sides, parts=blocks)


def _flipped(pieces: Iterator[Columns], height: int) -> Iterator[Columns]:
    """Events whose rows count from the other end."""
    for piece in pieces:
        # A row beyond the top wraps around to one outside the sensor.
        yield piece._replace(y=np.uint16(height - 1) - piece.y)


def _variables(path: Path) -> list[Stored]:
    """The arrays of a file of MATLAB 5 to 7."""
    try:
        io = importlib.import_module("scipy.io")
    except ImportError:
        raise MissingExtraError("reading MATLAB files", "mat") from None
    # scipy raises whatever damaged bytes make it stumble over, and warns of what it cannot read.
    with damage("MATLAB file", (Exception,)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = io.loadmat(path, chars_as_strings=False)
    arrays = [array for name, value in loaded.items() for array in _arrays(name, value)]
    if not arrays:
        others = shown(name for name in loaded if not name.startswith("__"))
        raise EventFileError(
            f"holds no arrays of numbers; its variables are {others} (save the columns of a table as arrays: t = T.t)"
        )
    return arrays


def _arrays(name: str, value: Any, depth: int = 0) -> Iterator[Stored]:
    """The arrays of numbers in a variable: itself, or the fields of a structure."""
    if not isinstance(value, np.ndarray):
        return
    if value.dtype.kind in "iufb":
        yield held(name, value)
    elif value.dtype.names and value.size == 1 and depth < DEEPEST:
        for field in value.dtype.names:
            yield from _arrays(f"{name}.{field}", value.reshape(-1)[0][field], depth + 1)
