"""`.npz`: named columns t, x, y, p and, if the writer knew it, the sensor's width and height."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.columns import ROLES, no_columns
from neuromoco.events.recording import Recording, check_columns, check_lengths
from neuromoco.events.stream import DAMAGE, PIECE, Columns, EventStream, ReadOptions, damage
from neuromoco.support.files import writing

FORMAT = "npz"
MAGIC = b"PK\x03\x04"
# A small archive can unpack to any size. Packed events are at least this share of their size, unless they are few.
LARGEST_RATIO = 200
HARMLESS_BYTES = 1 << 26
LARGEST_HEADER = 1 << 16
# What numpy and zipfile raise on archives that are damaged or made by hand.
ARCHIVE_DAMAGE = (*DAMAGE, EOFError, SyntaxError, lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def looks_like_npz(head: bytes, size: int) -> bool:
    """Whether the file is a zip archive whose first member is a numpy array."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head.startswith(MAGIC) and name.endswith(b".npy")


def open_npz(path: Path, options: ReadOptions) -> EventStream:
    """Opens named columns, unpacked piece by piece. Times are microseconds; nothing is ever unpickled."""
    with damage("npz file", ARCHIVE_DAMAGE):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            names = {member.removesuffix(".npy") for member in archive.namelist()}
        if unpacked > HARMLESS_BYTES and unpacked > LARGEST_RATIO * path.stat().st_size:
            raise EventFileError(
                f"the archive unpacks to {unpacked} bytes, {unpacked // path.stat().st_size} times its size; "
                f"up to {LARGEST_RATIO} times are read"
            )
        if missing := [name for name in ROLES if name not in names]:
            raise no_columns("arrays", sorted(names), missing)
        sides = {name: _number(path, name) for name in ("width", "height") if name in names}
    return EventStream(FORMAT, _pieces(path), sides.get("width"), sides.get("height"))


def _pieces(path: Path) -> Iterator[Columns]:
    with damage("npz file", ARCHIVE_DAMAGE), zipfile.ZipFile(path) as archive, ExitStack() as opened:
        members = [_Member(opened.enter_context(archive.open(f"{name}.npy")), name) for name in ROLES]
        check_columns({member.name: np.empty(0, member.dtype) for member in members})
        check_lengths("columns", {member.name: member.count for member in members})
        for _ in range(0, members[0].count, PIECE):
            piece = Columns(*(member.read(PIECE) for member in members))
            check_columns(piece._asdict())
            yield piece
        for member in members:
            member.end()


def _number(path: Path, name: str) -> int:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        return int(np.lib.format.read_array(file, allow_pickle=False, max_header_size=LARGEST_HEADER))


class _Member:
    """An array [E] in an archive, read from its beginning."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self.name = file, name
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"an array of version {version}")
        shape, _, self.dtype = read(file, max_header_size=LARGEST_HEADER)
        if self.dtype.hasobject:
            raise EventFileError(f"column {name} holds Python objects, which are never loaded")
        if len(shape) != 1:
            raise EventFileError(f"column {name} has shape {shape}; a column has one dimension")
        self.count = self._left = shape[0]

    def read(self, most: int) -> NDArray[Any]:
        """At most `most` further events."""
        size = min(most, self._left)
        raw = self._file.read(size * self.dtype.itemsize)
        if len(raw) < size * self.dtype.itemsize:
            raise EOFError(f"column {self.name} is cut")
        self._left -= size
        return np.frombuffer(raw, self.dtype)

    def end(self) -> None:
        """Refuses an array that something follows; reading on also compares the archive's checksum."""
        if self._file.read(1):
            raise ValueError(f"column {self.name} is longer than it says")


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
