"""A set of cached frames on the disk: three arrays, written row by row, each row with a checksum.

    frames.npy  [S, T, P, H, W]  uint8, or uint16 if a count needs it
    facts.npy   [S, 5]           events, microseconds, rows and columns of the sensor, CRC-32 of the row in all files
    keys.npy    [S, 2]           the recording's key, written last; zeros are a row that is still to be made

Rows are written by system calls: on a full disk these raise an error, where writing to a memory map kills the process.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.support.files import writing

FRAMES, FACTS, KEYS = "frames.npy", "facts.npy", "keys.npy"
CHECKED_AT_ONCE = 64  # rows
CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)  # some disks; a full one is met in `put`


class FrameFiles:
    """The files of a set in a folder; attributes are memory-mapped, and only `put` writes.

    Raises:
        ValueError, OSError: a file is missing, cut, a link, or not what its name says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames = _open(folder / FRAMES)  # [S, T, P, H, W]
        self.facts = _open(folder / FACTS)  # [S, 5]
        self.keys = _open(folder / KEYS)  # [S, 2]
        count = len(self.frames)
        if self.frames.ndim != 5 or self.facts.shape != (count, 5) or self.keys.shape != (count, 2):
            raise ValueError(f"{folder}: arrays of {self.frames.shape}, {self.facts.shape} and {self.keys.shape}")
        types = (self.frames.dtype, self.facts.dtype, self.keys.dtype)
        if types[0] not in (np.uint8, np.uint16) or types[1:] != (np.int64, np.uint64):
            raise ValueError(f"{folder}: arrays of {types}")

    @classmethod
    def create(cls, folder: Path, shape: tuple[int, ...]) -> FrameFiles:
        """Makes the files of a set whose rows are all still to be made, and reserves their space; [S, T, P, H, W]."""
        _create(folder / FRAMES, np.uint8, shape)
        _create(folder / FACTS, np.int64, (shape[0], 5))
        _create(folder / KEYS, np.uint64, (shape[0], 2))
        return cls(folder)

    def done(self) -> NDArray[np.bool_]:
        """Which rows have been made, [S]."""
        done: NDArray[np.bool_] = self.keys.any(axis=1)
        return done

    def is_good(self, row: int) -> bool:
        """Whether a row is as it was written."""
        return bool(self.facts[row, 4] == _checksum(self.frames[row], self.facts[row, :4], self.keys[row]))

    def good_rows(self) -> NDArray[np.bool_]:
        """Which rows have been made and are as they were written, [S]."""
        done = np.flatnonzero(self.done()).tolist()
        good = np.zeros(len(self.keys), bool)

        def check(rows: list[int]) -> None:
            good[rows] = [self.is_good(row) for row in rows]

        with ThreadPoolExecutor() as threads:  # checksums release the GIL
            list(threads.map(check, (done[i : i + CHECKED_AT_ONCE] for i in range(0, len(done), CHECKED_AT_ONCE))))
        return good

    def put(self, rows: Sequence[int], frames: Sequence[Any], facts: Any, keys: Any) -> None:
        """Writes R rows: frames R x [T, P, H, W], facts [R, 4], and at last keys [R, 2]."""
        if self.frames.dtype == np.uint8 and any(counts.dtype != np.uint8 for counts in frames):
            self._widen()
        for row, counts, known, key in zip(rows, frames, np.asarray(facts), np.asarray(keys), strict=True):
            written = np.ascontiguousarray(counts, self.frames.dtype)
            _write(self.folder / FRAMES, self.frames, row, written)
            self._finish(row, written, known, key)

    def drop(self, row: int) -> None:
        """Marks a row as still to be made."""
        _write(self.folder / KEYS, self.keys, row, np.zeros(2, np.uint64))

    def _finish(self, row: int, frames: Any, facts: Any, key: Any) -> None:
        facts, key = np.ascontiguousarray(facts[:4], np.int64), np.ascontiguousarray(key, np.uint64)
        checked = np.append(facts, np.int64(_checksum(frames, facts, key)))
        _write(self.folder / FACTS, self.facts, row, checked)
        _write(self.folder / KEYS, self.keys, row, key)

    def _widen(self) -> None:
        """Changes the counts from uint8 to uint16."""
        narrow, done = self.frames, np.flatnonzero(self.done()).tolist()
        with writing(self.folder / FRAMES) as part:
            _create(part, np.uint16, narrow.shape)
            wide = _open(part)
            for row in done:
                _write(part, wide, row, narrow[row].astype(np.uint16))
        self.frames = _open(self.folder / FRAMES)
        for row in done:
            self._finish(row, self.frames[row], self.facts[row], self.keys[row])


def _open(path: Path) -> Any:
    if path.is_symlink():
        raise ValueError(f"{path}: is a link")
    return np.lib.format.open_memmap(path, "r")


def _create(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Writes an .npy file of zeros whose space is reserved, so that a full disk is met here."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        begin = file.tell()
        file.truncate(begin + size)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), begin, size)
            except OSError as error:
                if error.errno not in CANNOT_RESERVE:
                    raise


def _write(path: Path, array: Any, row: int, values: Any) -> None:
    """Writes a row of a memory-mapped .npy file, of which `array` is the map."""
    with path.open("r+b") as file:
        file.seek(array.offset + row * array[row].nbytes)
        file.write(values.tobytes())


def _checksum(frames: Any, facts: Any, key: Any) -> int:
    """The CRC-32 of a row; a row of zeros has another than 0."""
    found = 0
    for array in (frames, facts, key):
        found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found
