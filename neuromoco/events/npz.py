"""`.npz`: named columns t, x, y, p and, if the writer knew it, the sensor's width and height."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording, check_columns
from neuromoco.events.stream import Columns, EventStream, Given, in_pieces
from neuromoco.files import writing

FORMAT = "npz"
COLUMNS = ("t", "x", "y", "p")
MAGIC = b"PK\x03\x04"
# A small archive can declare arrays of any size; more than this is refused before it is unpacked.
LARGEST_BYTES = 1 << 30
# What numpy and zipfile raise on archives that are cut, flipped or made by hand.
DAMAGE = (
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def looks_like_npz(head: bytes, size: int) -> bool:
    """Whether the file is a zip archive whose first member is a numpy array."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head.startswith(MAGIC) and name.endswith(b".npy")


def open_npz(path: Path, given: Given) -> EventStream:
    """Named columns. Times are microseconds; nothing is ever unpickled.

    Raises:
        EventFileError: damaged, too large, a column is missing, or a column is no plain array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST_BYTES:
            raise EventFileError(f"the archive unpacks to {unpacked} bytes; up to {LARGEST_BYTES} are read")
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in COLUMNS if name not in arrays]
            if missing:
                raise EventFileError(
                    f"the arrays are {', '.join(sorted(arrays.files)) or 'none'}; "
                    f"a recording has t, x, y, p: {', '.join(missing)} missing"
                )
            columns = {name: np.asarray(arrays[name]) for name in COLUMNS}
            sides = {name: int(arrays[name]) for name in ("width", "height") if name in arrays}
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EventFileError(f"the npz file is cut or damaged ({reason})") from error
    check_columns(columns)
    return EventStream(FORMAT, in_pieces(Columns(**columns)), sides.get("width"), sides.get("height"))


def write_npz(path: Path, recording: Recording) -> None:
    """Writes a recording so that `read_recording` gives it back unchanged, whatever the name of the file."""
    with writing(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            t=recording.t,
            x=recording.x,
            y=recording.y,
            p=recording.p,
            width=recording.width,
            height=recording.height,
        )
