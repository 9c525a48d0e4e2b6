"""HDF5: events in the layouts in use. Needs h5py, and hdf5plugin for most compressed files.

Layouts are recognised by what they share, anywhere in the file:

- a data set of records with the fields t, x, y, p: Prophesee's `CD/events` (docs.prophesee.ai, HDF5 event file
  format), tonic's disk cache (`data/0`);
- a group of data sets t, x, y, p under any of the names in `neuromoco.events.columns`: DSEC (`events/{t,x,y,p}`
  and `t_offset`, which is added), TUM-VIE, RVT, M3ED, the packagers of e2vid and events_contrast_maximization
  (`events/{ts,xs,ys,ps}`), MATLAB 7.3;
- a data set [E, 4] called `events`: v2e's integers t, x, y, p, MVSEC's floating-point numbers x, y, t, p, or the
  order that the user gives.

Times without a unit are seconds if they are floating-point numbers, rounded to the nearest microsecond, and
microseconds if they are integers. The sensor is that of the attributes `geometry` ("1280x720"), `width` and
`height`, `sensor_resolution` (height, width), or of data sets `width` and `height`, or `calib/resolution` (M3ED:
width, height), next to the events.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuromoco.errors import MissingExtraError
from neuromoco.events.hdf5.layout import Sides, Source, find_source, sensor_of
from neuromoco.events.hdf5.storage import check_storage
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import DAMAGE, PIECE, Columns, EventStream, damage
from neuromoco.events.tidy import tidy

FORMAT = "HDF5"
MAGIC = b"\x89HDF\r\n\x1a\n"
# A file may begin with a block of other data, of one of these sizes.
OFFSETS = (0, 512, 1024, 2048)
HDF5_DAMAGE = (*DAMAGE, OSError, AttributeError)


def looks_like_hdf5(head: bytes, size: int) -> bool:
    """Whether the file is HDF5, and not MATLAB's, which has a reader of its own."""
    return has_signature(head) and not head.startswith(b"MATLAB")


def has_signature(head: bytes) -> bool:
    """Whether HDF5's signature is at one of its places."""
    return any(head[at : at + len(MAGIC)] == MAGIC for at in OFFSETS)


def open_hdf5(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; `options` may name or order its columns, select a camera, and name time unit and sensor."""
    sides, source, pieces = raw_hdf5(path, options)
    return EventStream(
        FORMAT, tidy(pieces, options.unit(source.unit), order=source.order), *sides, parts=source.count / PIECE
    )


def raw_hdf5(path: Path, options: ReadOptions) -> tuple[Sides, Source, Iterator[Columns]]:
    """Width and height, the place and the events of a file as they are stored."""
    with _opened(path) as file:
        source = find_source(file, options)
        check_storage(source.datasets(file), path.stat().st_size)
        sides = options.sensor or sensor_of(file, source)
    return sides, source, _pieces(path, source)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as h5py opens it; errors of h5py become errors of the file."""
    try:
        h5py = importlib.import_module("h5py")
    except ImportError:
        raise MissingExtraError("reading HDF5 files", "hdf5") from None
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")  # registers its codecs
    with damage("HDF5 file", HDF5_DAMAGE), h5py.File(path, "r") as file:
        yield file


def _pieces(path: Path, source: Source) -> Iterator[Columns]:
    """The events as they are stored."""
    with _opened(path) as file:
        rows = source.rows(file)
        for first in range(0, source.count, PIECE):
            yield source.read(rows, first, min(first + PIECE, source.count))
