"""`.npz`: arrays of events and, if the writer knew it, the sensor's width and height. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.arrays.npy import ARRAY_DAMAGE, Member
from neuromoco.events.arrays.stored import Stored, stream_of
from neuromoco.events.columns import ROLES
from neuromoco.events.options import ReadOptions
from neuromoco.events.recording import Recording
from neuromoco.events.stream import Columns, EventStream, damage
from neuromoco.support.files import writing

FORMAT = "npz"
MAGIC = b"PK\x03\x04"
# A small archive can unpack to any size. Packed events are at least this share of their size, unless they are few.
LARGEST_RATIO = 200
HARMLESS_BYTES = 1 << 26
MOST_ARRAYS = 1000


def looks_like_npz(head: bytes, size: int) -> bool:
    """Whether the file is a zip archive whose first member is a numpy array."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head.startswith(MAGIC) and name.endswith(b".npy")


def open_npz(path: Path, options: ReadOptions) -> EventStream:
    """Opens an archive; see `neuromoco.events.arrays.stored` for what it may hold. It is unpacked piece by piece."""
    with _opened(path) as arrays:
        stream = stream_of(FORMAT, arrays, options)
        if not options.sensor:
            of_title = {array.title: array for array in arrays}
            stream.width, stream.height = _side(of_title.get("width")), _side(of_title.get("height"))
    stream.pieces = _pieces(path, options)
    return stream


def _pieces(path: Path, options: ReadOptions) -> Iterator[Columns]:
    with _opened(path) as arrays:
        yield from stream_of(FORMAT, arrays, options).pieces


@contextmanager
def _opened(path: Path) -> Iterator[list[Stored]]:
    """The arrays of an archive, while it is open."""
    with damage("npz file", ARRAY_DAMAGE), ExitStack() as opened:
        archive = opened.enter_context(zipfile.ZipFile(path))
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > HARMLESS_BYTES and unpacked > LARGEST_RATIO * path.stat().st_size:
            raise EventFileError(
                f"the archive unpacks to {unpacked} bytes, {unpacked // path.stat().st_size} times its size; "
                f"up to {LARGEST_RATIO} times are read"
            )
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if len(names) > MOST_ARRAYS:
            raise EventFileError(f"the archive holds {len(names)} arrays; up to {MOST_ARRAYS} are read")
        yield [_stored(opened, archive, name) for name in names]


def _stored(opened: ExitStack, archive: zipfile.ZipFile, name: str) -> Stored:
    """An array in an archive, which also compares its checksum when all has been read."""

    def items(start: int) -> Member:
        return Member(opened.enter_context(archive.open(name)), name.removesuffix(".npy"), start)

    one = items(0)
    return Stored(one.name, one.dtype, one.shape, items, one.by_columns)


def _side(array: Stored | None) -> int | None:
    """A side of the sensor, from an array of one number."""
    if array is None:
        return None
    if array.dtype.kind not in "iuf" or any(side != 1 for side in array.shape):
        raise EventFileError(f"{array.name} is no number")
    side = array.items(0).read(1)[0]
    if side != np.rint(side):  # nor is NaN
        raise EventFileError(f"a {array.name} of {side}; the sides of a sensor are whole numbers")
    return int(side)


def write_npz(path: Path, recording: Recording) -> None:
    """Writes a recording as a compressed `.npz`; `read_recording` reads it back unchanged, whatever the file's name.

    Examples:
        >>> import tempfile
        >>> from neuromoco.events import read_recording, write_npz
        >>> recording = read_recording("models/examples/3.bin")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_npz(Path(folder) / "3.npz", recording)
        ...     read_recording(Path(folder) / "3.npz").source
        'npz'
    """
    arrays = {name: getattr(recording, name) for name in (*ROLES, "width", "height")}
    with writing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
