"""One door for every event file: what it holds decides how it is read, not what it is called.

To add a format, write a module with `looks_like_...(head, size)` and `read_...(path)` and add its row
to `MARKED`, or to `UNMARKED` if its files begin with no mark of their own. The first row that recognises
the head of a file reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from neuromoco.errors import EventFileError
from neuromoco.events import aedat4, atis, npz
from neuromoco.events.recording import Recording

HEAD_BYTES = 4000


class Format(NamedTuple):
    """A row of the table of formats."""

    name: str
    recognises: Callable[[bytes, int], bool]  # (first bytes, size of the file)
    read: Callable[[Path], Recording]


MARKED = (
    Format(aedat4.FORMAT, aedat4.looks_like_aedat4, aedat4.read_aedat4),
    Format(npz.FORMAT, npz.looks_like_npz, npz.read_npz),
)
UNMARKED = (Format(atis.FORMAT, atis.looks_like_atis, atis.read_atis),)

# Files that people drop by mistake, and event formats that are not read yet: named, so that the
# message helps.
OTHERS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive without numpy arrays"),
    (b"\x1f\x8b", "a gzip file (unpack it first)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a single numpy array"),
    (b"#!AER-DAT2", "an AEDAT 2.0 recording"),
    (b"#!AER-DAT3", "an AEDAT 3.1 recording"),
    (b"#!AER-DAT", "an AEDAT recording of an unknown version"),
    (b"Event Stream", "an Event Stream recording"),
    (b"#ROSBAG", "a ROS bag"),
    (b"% ", "a Prophesee recording"),
)


def readable_formats() -> str:
    """The names of the formats that `read_recording` reads, for messages."""
    return ", ".join(row.name for row in MARKED + UNMARKED)


def read_recording(path: Path | str) -> Recording:
    """Reads an event recording of any format in the table, recognised by its content.

    Raises:
        EventFileError: the file is missing, empty, damaged or of another kind. The message is one
            line that begins with the path.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise EventFileError("is a folder; give the event files in it")
        if path.exists() and not path.is_file():
            raise EventFileError("is no regular file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        size = path.stat().st_size
        if size == 0:
            raise EventFileError("is empty (0 bytes)")
        return _format_of(head, size).read(path)
    except FileNotFoundError:
        raise EventFileError(f"{path}: does not exist") from None
    except OSError as error:
        raise EventFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except EventFileError as error:
        raise EventFileError(f"{path}: {error}") from error.__cause__


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
