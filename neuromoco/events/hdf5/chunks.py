"""The rows of a data set, chunk by chunk, unpacked by HDF5's own filters.

The HDF5 library (2.0) does not notice that a chunk unpacks to fewer bytes than it should: whatever lies behind them in
memory would be taken for events. So a stored chunk is put, as it is, into a data set in memory that has the same
filters and, before them, one that counts the bytes (docs.hdfgroup.org, "H5Zregister").
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError

COUNTER = 511  # a number that HDF5 leaves to tests
BITSHUFFLE, BITSHUFFLE_OWN = 32008, 3  # it puts so many numbers before its settings whenever a data set is made
FILTER = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


class _FilterClass(ctypes.Structure):
    """`H5Z_class2_t`."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", FILTER),
    ]


class _Counter:
    """A filter that changes nothing and keeps the number of bytes that reached it."""

    def __init__(self) -> None:
        from h5py import h5z

        self.size = 0
        self._kept = FILTER(self._count)  # HDF5 keeps only the address
        kind = _FilterClass(1, COUNTER, 1, 1, b"counts bytes", None, None, self._kept)
        if ctypes.CDLL(h5z.__file__).H5Zregister(ctypes.byref(kind)) < 0:
            raise RuntimeError("HDF5 takes no filter")

    def _count(self, flags: int, settings: int, values: int, size: int, buffer_size: int, buffer: int) -> int:
        self.size = size
        return size


_counter = functools.cache(_Counter)
_number = itertools.count()  # files that are open at the same time differ in their names


class Rows:
    """Reads consecutive rows of a data set [E], [E, C], or [1, E]; a chunk that is read in parts is unpacked once."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._axis = 1 if dataset.ndim == 2 and dataset.shape[0] == 1 else 0
        self._scratch: dict[int, Any] = {}  # by the filters that some chunks did not go through
        self._chunks: dict[tuple[int, ...], NDArray[Any]] = {}  # those that the next rows may need too

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Rows from first to last: [E], or [E, C] if there are several columns."""
        if self._dataset.chunks is None:
            part = self._dataset[:, first:last] if self._axis else self._dataset[first:last]
            return _as_rows(part)
        shape = [*self._dataset.shape]
        shape[self._axis] = last - first
        rows = np.empty(shape, self._dataset.dtype)
        steps = self._dataset.chunks
        begins = [range(0, side, step) for side, step in zip(self._dataset.shape, steps, strict=True)]
        along = steps[self._axis]
        begins[self._axis] = range(first // along * along, last, along)
        needed = {}
        for offset in itertools.product(*begins):
            chunk = self._chunks.get(offset)
            if chunk is None:
                chunk = self._unpacked(offset)
            if offset[self._axis] + along > last:
                needed[offset] = chunk
            begin = offset[self._axis]
            low, high = max(begin, first), min(begin + along, last)
            target = [slice(at, at + step) for at, step in zip(offset, steps, strict=True)]
            source = [slice(0, min(step, side - at)) for at, step, side in zip(offset, steps, shape, strict=True)]
            target[self._axis], source[self._axis] = slice(low - first, high - first), slice(low - begin, high - begin)
            rows[tuple(target)] = chunk[tuple(source)]
        self._chunks = needed
        return _as_rows(rows)

    def _unpacked(self, offset: tuple[int, ...]) -> NDArray[Any]:
        """A chunk, whole even where it reaches beyond the data set."""
        from h5py import h5s

        name, place = self._dataset.name, self._dataset.id
        if place.get_chunk_info_by_coord(offset).byte_offset is None:
            raise EventFileError(f"cut or damaged: a chunk of {name} is missing")
        mask, packed = place.read_direct_chunk(offset)
        if mask not in self._scratch:
            self._scratch[mask] = _scratch(self._dataset, mask)
        self._scratch[mask].write_direct_chunk((0,) * len(offset), packed)
        chunk = np.empty(self._dataset.chunks, self._dataset.dtype)
        self._scratch[mask].read(h5s.ALL, h5s.ALL, chunk)
        size, wanted = _counter().size, place.get_type().get_size() * chunk.size
        if size != wanted:
            raise EventFileError(f"damaged: a chunk of {name} unpacks to {size} bytes of its {wanted}")
        return chunk


def _as_rows(part: NDArray[Any]) -> NDArray[Any]:
    return np.ravel(part) if part.ndim == 2 and 1 in part.shape else part


def _scratch(dataset: Any, mask: int) -> Any:
    """A data set in memory of one chunk with the type of another, the counter, and the filters that are not masked."""
    import h5py

    _counter()
    theirs, plan = dataset.id.get_create_plist(), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(dataset.chunks)
    plan.set_filter(COUNTER, 0, ())
    for place in range(theirs.get_nfilters()):
        code, flags, settings, _ = theirs.get_filter(place)
        if not mask >> place & 1:
            plan.set_filter(code, flags, settings[BITSHUFFLE_OWN:] if code == BITSHUFFLE else settings)
    file = h5py.File(f"chunk {next(_number)}", "w", driver="core", backing_store=False)
    space = h5py.h5s.create_simple(dataset.chunks)
    return h5py.h5d.create(file.id, b"chunk", dataset.id.get_type(), space, plan)
