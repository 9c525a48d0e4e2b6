"""`.npy`: one numpy array of events (numpy.lib.format, versions 1 to 3). Nothing is ever unpickled."""

from __future__ import annotations

import io
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.arrays.stored import Stored, stream_of
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import DAMAGE, Columns, CutError, EventStream, damage, starts_with

FORMAT = "npy"
MAGIC = b"\x93NUMPY"
LARGEST_HEADER = 1 << 16
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # of the length of the header, by version
# What numpy and zipfile raise on arrays and archives that are damaged or made by hand.
ARRAY_DAMAGE = (*DAMAGE, EOFError, SyntaxError, lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)

looks_like_npy = starts_with(MAGIC)


class Member:
    """An array in a file or in an archive, read from an item on."""

    def __init__(self, file: IO[bytes], name: str, start: int = 0, ends: bool = True) -> None:
        self.name, self._file, self._ends = name, file, ends
        version, _ = np.lib.format.read_magic(file)
        length = int.from_bytes(file.read(LENGTH_BYTES[version]), "little")
        if length > LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = file.read(length)
        if version == 3:  # the only difference to version 2: in UTF-8
            header = header.decode().encode("ascii", "backslashreplace")
        like_2 = io.BytesIO(len(header).to_bytes(4, "little") + header)
        self.shape, self.by_columns, self.dtype = np.lib.format.read_array_header_2_0(like_2, LARGEST_HEADER)
        self.begin = file.tell()
        file.seek(start * self.dtype.itemsize, 1)

    def read(self, count: int) -> NDArray[Any]:
        """The next items."""
        size = count * self.dtype.itemsize
        raw = self._file.read(size)
        if len(raw) < size:
            raise EOFError(f"column {self.name} is cut")
        return np.frombuffer(raw, self.dtype)

    def end(self) -> None:
        """Refuses an array that something follows."""
        if self._ends and self._file.read(1):
            raise ValueError(f"column {self.name} is longer than it says")


def open_npy(path: Path, options: ReadOptions) -> EventStream:
    """Opens an array; see `neuromoco.events.arrays.stored` for what it may hold."""
    with _opened(path, options.salvage) as (array, _):
        stream = stream_of(FORMAT, [array], options)
    stream.pieces = _pieces(path, options)
    return stream


def _pieces(path: Path, options: ReadOptions) -> Iterator[Columns]:
    with _opened(path, options.salvage) as (array, cut):
        yield from stream_of(FORMAT, [array], options).pieces
    if cut:
        raise cut


@contextmanager
def _opened(path: Path, salvage: bool) -> Iterator[tuple[Stored, CutError | None]]:
    """The array, or of a cut one the rows that are there, while the file is open; and what is wrong with it."""
    with damage("npy file", ARRAY_DAMAGE), ExitStack() as opened:

        def items(start: int) -> Member:
            return Member(opened.enter_context(path.open("rb")), "", start, ends=False)  # the size is compared here

        one = items(0)
        array = Stored("", one.dtype, one.shape, items, one.by_columns)
        there = path.stat().st_size - one.begin
        missing = math.prod(one.shape) * one.dtype.itemsize - there
        if min(one.shape, default=1) <= 0:
            raise EventFileError("the npy file holds no events")
        if missing < 0 and not one.dtype.hasobject:
            raise EventFileError(f"the npy file is damaged: {-missing} bytes follow its array")
        if missing <= 0:
            yield array, None
            return
        each = one.shape[:-1] if one.by_columns else one.shape[1:]  # of the axis along which an array is written
        row = math.prod(each) * one.dtype.itemsize
        rows = there // row
        reason = f"the npy file is cut or damaged: {missing} bytes of its array are missing"
        cut = CutError(reason, one.begin + rows * row)
        if not salvage:
            raise cut
        if array.apart:
            raise EventFileError(f"{cut}; its columns come one after the other, and some are not there")
        shape = (*each, rows) if one.by_columns else (rows, *each)
        yield Stored("", one.dtype, shape, items, one.by_columns), cut
