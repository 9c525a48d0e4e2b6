"""One door for every event file: what it holds decides how it is read, not what it is called.

To add a format, write a module with `looks_like_...(head, size)` and `open_...(path, options)` and add its row
to `MARKED`, or to `UNMARKED` if its files begin with no mark of their own. The first row that recognises
the head of a file reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import atis, es
from neuromoco.events.aedat import aedat2, aedat3, aedat4
from neuromoco.events.arrays import mat, npy, npz
from neuromoco.events.hdf5 import events as hdf5
from neuromoco.events.prophesee import dat, evt
from neuromoco.events.recording import Recording
from neuromoco.events.ros import packets as ros
from neuromoco.events.stream import EventStream, ReadOptions, gather, windows
from neuromoco.events.survey import Survey, survey
from neuromoco.events.text import lines as text

HEAD_BYTES = 4000


class Format(NamedTuple):
    """A row of the table of formats."""

    key: str  # what `--format` calls it
    name: str
    recognises: Callable[[bytes, int], bool]  # (first bytes, size of the file)
    open: Callable[[Path, ReadOptions], EventStream]


MARKED = (
    Format("aedat4", aedat4.FORMAT, aedat4.looks_like_aedat4, aedat4.open_aedat4),
    Format("aedat3", aedat3.FORMAT, aedat3.looks_like_aedat3, aedat3.open_aedat3),
    Format("aedat2", aedat2.FORMAT, aedat2.looks_like_aedat2, aedat2.open_aedat2),
    Format("evt", evt.FORMAT, evt.looks_like_evt, evt.open_evt),
    Format("dat", dat.FORMAT, dat.looks_like_dat, dat.open_dat),
    Format("es", es.FORMAT, es.looks_like_es, es.open_es),
    Format("hdf5", hdf5.FORMAT, hdf5.looks_like_hdf5, hdf5.open_hdf5),
    Format("ros", ros.FORMAT, ros.looks_like_ros, ros.open_ros),
    Format("npz", npz.FORMAT, npz.looks_like_npz, npz.open_npz),
    Format("npy", npy.FORMAT, npy.looks_like_npy, npy.open_npy),
    Format("mat", mat.FORMAT, mat.looks_like_mat, mat.open_mat),
)
UNMARKED = (
    Format("csv", text.FORMAT, text.looks_like_text, text.open_text),
    Format("atis", atis.FORMAT, atis.looks_like_atis, atis.open_atis),
)

# Files that people drop by mistake: named, so that the message helps.
OTHERS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive without numpy arrays"),
    (b"\x1f\x8b", "a gzip file (unpack it first)"),
    (b"7z\xbc\xaf", "a 7z archive (unpack it first)"),
    (b"#ROSBAG", "a ROS bag of an old version (run rosbag fix)"),
    (b"#!AER-DAT", "an AEDAT recording of an unknown version"),
    (b"% ", "a Prophesee recording of an unknown kind"),
)


def readable_formats() -> str:
    """The names of the formats that `read_recording` reads, for messages."""
    return ", ".join(row.name for row in MARKED + UNMARKED)


def read_recording(
    path: Path | str, start: int | None = None, stop: int | None = None, options: ReadOptions | None = None
) -> Recording:
    """Reads an event recording of any format in the table, recognised by its content.

    Args:
        path: the file.
        start, stop: read a part, in microseconds from the first event; it holds start and ends before stop.
        options: what the file does not say of itself.

    Raises:
        EventFileError: the file is missing, empty, damaged or of another kind. The message is one
            line that begins with the path.
        ConfigError: an unknown format is given.
    """
    with _named(path):
        return gather(_open(Path(path), options or ReadOptions()), start, stop)


def read_windows(path: Path | str, length: int, options: ReadOptions | None = None) -> Iterator[Recording]:
    """A recording cut into parts of equal duration, one at a time: memory does not grow with the file.

    Args:
        path: the file.
        length: microseconds of a part; the last may be shorter, and parts may be empty.
        options: what the file does not say of itself.

    Raises:
        EventFileError: see `read_recording`; or times that run back by more than 10 ms.
        ConfigError: an unknown format is given.
    """
    with _named(path):
        yield from windows(_of_known_sensor(Path(path), options or ReadOptions()), length)


def survey_recording(path: Path | str, options: ReadOptions | None = None) -> Survey:
    """What a file holds, in one pass (two where it does not name its sensor) and in bounded memory.

    Raises:
        EventFileError: see `read_recording`, but for events outside the sensor, which are counted.
        ConfigError: an unknown format is given.
    """
    with _named(path):
        return survey(_of_known_sensor(Path(path), options or ReadOptions()))


def _of_known_sensor(path: Path, options: ReadOptions) -> EventStream:
    stream = _open(path, options)
    if stream.width is None or stream.height is None:
        stream.width, stream.height = _extent(_open(path, options))
    return stream


def _open(path: Path, options: ReadOptions) -> EventStream:
    if path.is_dir():
        raise EventFileError("is a folder; give the event files in it")
    if path.exists() and not path.is_file():
        raise EventFileError("is no regular file")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    size = path.stat().st_size
    if size == 0:
        raise EventFileError("is empty (0 bytes)")
    stream = (_format_of(head, size) if options.format is None else _format_named(options.format)).open(path, options)
    if options.sensor and (stream.width is None or stream.height is None):
        stream.width, stream.height = options.sensor
    return stream


def _extent(stream: EventStream) -> tuple[int, int]:
    """Width and height that hold every event."""
    right = bottom = 0
    for piece in stream.pieces:
        if piece.t.size:
            right, bottom = max(right, int(piece.x.max())), max(bottom, int(piece.y.max()))
    return right + 1, bottom + 1


@contextmanager
def _named(path: Path | str) -> Iterator[None]:
    """Errors of a file begin with its path."""
    try:
        yield
    except FileNotFoundError:
        raise EventFileError(f"{path}: does not exist") from None
    except OSError as error:
        raise EventFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except EventFileError as error:
        raise EventFileError(f"{path}: {error}") from error.__cause__


def _format_named(key: str) -> Format:
    rows = {row.key: row for row in MARKED + UNMARKED}
    if key not in rows:
        raise ConfigError(f"no format named {key!r}; known are {', '.join(rows)}")
    return rows[key]


def _format_of(head: bytes, size: int) -> Format:
    for row in MARKED:
        if row.recognises(head, size):
            return row
    for magic, what in OTHERS:
        if head.startswith(magic):
            raise EventFileError(f"is {what}; neuromoco reads {readable_formats()}")
    for row in UNMARKED:
        if row.recognises(head, size):
            return row
    raise EventFileError(f"is no event recording that neuromoco knows; it reads {readable_formats()}")
