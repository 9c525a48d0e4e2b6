"""The arrays of a network description, read from HDF5 within limits.

Our files have groups three deep, with small arrays of numbers and short texts that lie in the file as they are. Nothing
else is followed: no links, no other files, no filters, no objects, no virtual data.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

MOST_OBJECTS = 100_000
DEEPEST = 4
LARGEST_RANK = 4
LARGEST_ITEM = 64  # bytes of a number or a text
Tree: TypeAlias = "dict[str, Tree | NDArray[Any]]"


def read_arrays(path: Path) -> Tree:
    """Groups and arrays of a file by name, nested as in the file.

    Raises:
        ValueError: it holds something that our files do not.
        OSError, KeyError, RuntimeError: of h5py, for what it cannot read.
    """
    reader = _Reader(path.stat().st_size)
    with h5py.File(path, "r") as file:
        return reader.group(file.id, 0)


class _Reader:
    """h5py's lower level, which is several times as fast on many small arrays."""

    def __init__(self, size: int) -> None:
        self._bytes, self._objects = size, MOST_OBJECTS  # that may still be read

    def group(self, group: Any, depth: int) -> Tree:
        """The groups and arrays in a group."""
        tree: Tree = {}
        for key in group:
            name = key.decode("utf-8", "replace")
            self._objects -= 1
            if self._objects < 0 or depth >= DEEPEST:
                raise ValueError("more groups and arrays than a network has")
            if group.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                raise ValueError(f"{name} is a link")
            entry = h5py.h5o.open(group, key)
            is_group = isinstance(entry, h5py.h5g.GroupID)
            tree[name] = self.group(entry, depth + 1) if is_group else self._array(name, entry)
        return tree

    def _array(self, name: str, data: Any) -> NDArray[Any]:
        if not isinstance(data, h5py.h5d.DatasetID) or data.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            raise ValueError(f"{name} is no array")
        layout, kind, shape = data.get_create_plist(), data.dtype, data.shape
        plain = layout.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not layout.get_external_count()
        if not plain or kind.kind not in "ibS" or kind.itemsize > LARGEST_ITEM:
            raise ValueError(f"{name} is of another type or layout")
        self._bytes -= math.prod(shape) * kind.itemsize  # which all lie in the file
        if len(shape) > LARGEST_RANK or self._bytes < 0:
            raise ValueError(f"{name} has shape {list(shape)}")
        array = np.zeros(shape, kind)
        if array.size:
            data.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return array
