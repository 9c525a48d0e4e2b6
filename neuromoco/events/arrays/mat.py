"""ASL-DVS `.mat` (Bi et al. 2019): MATLAB files with the variables ts, x, y, pol.

MATLAB 5 files are read here, after The MathWorks' "MAT-File Format": the declared size of a variable is checked before
it is unpacked. MATLAB 7.3 files are HDF5.

MATLAB stores whole numbers as floating-point numbers by default: times that are whole are microseconds in whatever
type, others are seconds. The first times decide.

Files with variables of exactly these names are ASL-DVS: a DAVIS240C, 240 x 180, whose rows MATLAB's jAER tools count
from the bottom, as tonic's reader assumes too; they are flipped. Under other names that `neuromoco.events.columns`
knows, such as t, x, y, p, rows count from the top.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.columns import ROLES, no_columns, roles_of, tidy
from neuromoco.events.hdf5.events import has_signature, raw_hdf5
from neuromoco.events.hdf5.layout import Sides
from neuromoco.events.recording import check_lengths
from neuromoco.events.stream import Columns, EventStream, ReadOptions, damage, in_pieces, starts_with

FORMAT = "MATLAB .mat"
MAGIC_5, MAGIC_7 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"
ASL_DVS = {"t": "ts", "x": "x", "y": "y", "p": "pol"}
ASL_DVS_SENSOR = (240, 180)
HEADER_BYTES = 128
MATRIX, COMPRESSED = 14, 15
# Types of stored numbers, and the classes of arrays that hold numbers ("MAT-File Format", tables 1-1 and 1-3).
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC = range(6, 16)
COMPLEX = 0x0800
MOST_VARIABLES = 1000
LARGEST_DESCRIPTION = 1024  # bytes of a variable before its numbers
LARGEST_BYTES = 1 << 27  # of one variable that is unpacked


class Variable(NamedTuple):
    """An array of numbers in a file: its name, length and flags, and the bytes of its matrix, packed or not."""

    name: str
    length: int
    flags: int
    body: memoryview
    packed: bool
    size: int  # that the matrix claims, unpacked


looks_like_mat = starts_with(MAGIC_5, MAGIC_7)


def open_mat(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; time unit and sensor in `options` overrule those of ASL-DVS."""
    with path.open("rb") as file:
        head = file.read(4000)
    sides: Sides
    if has_signature(head):
        sides, source, pieces = raw_hdf5(path, options)
        names = {role: place.rsplit("/", 1)[-1] for role, place in zip(ROLES, source.paths, strict=True)}
    else:
        columns, names = _columns(path)
        sides = options.sensor or (None, None)
        pieces = in_pieces(columns)
    tidied = tidy(_whole(pieces), options.time_unit)
    if names == ASL_DVS:
        sides = options.sensor or ASL_DVS_SENSOR
        tidied = _flipped(tidied, sides[1])
    return EventStream(FORMAT, tidied, *sides)


def _whole(pieces: Iterator[Columns]) -> Iterator[Columns]:
    """Makes floating-point times integers if the first ones are whole."""
    whole: bool | None = None
    for piece in pieces:
        t = piece.t
        if t.dtype.kind == "f" and whole is not False and t.size:
            is_whole = bool(np.all((t == np.rint(t)) & (np.abs(t) < 2**53)))
            if whole and not is_whole:
                raise EventFileError("times with a fraction after whole ones; give --time-unit")
            whole = is_whole
            t = t.astype(np.int64) if whole else t
        yield piece._replace(t=t)


def _flipped(pieces: Iterator[Columns], height: int) -> Iterator[Columns]:
    """Events whose rows count from the other end."""
    for piece in pieces:
        # A row beyond the top wraps around to one outside the sensor.
        yield piece._replace(y=np.uint16(height - 1) - piece.y)


def _columns(path: Path) -> tuple[Columns, dict[str, str]]:
    """The variables of events, and their names by role."""
    size = path.stat().st_size
    if size < HEADER_BYTES:
        raise EventFileError(f"cut: {size} bytes; the header of a MATLAB file alone has {HEADER_BYTES}")
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None:
        raise EventFileError("damaged: the header of the MATLAB file does not say its byte order")
    variables = {variable.name: variable for variable in _variables(data, order)}
    names = roles_of(variables)
    if missing := [ASL_DVS[role] for role in ROLES if role not in names]:
        raise no_columns("variables", sorted(variables), missing, "ts, x, y, pol")
    check_lengths("the variables", {name: variables[name].length for name in names.values()})
    return Columns(*(_numbers(variables[names[role]], order) for role in ROLES)), names


def _variables(data: memoryview, order: str) -> Iterator[Variable]:
    """The arrays of numbers of a file, without their numbers."""
    at = HEADER_BYTES
    for _ in range(MOST_VARIABLES):
        if at >= len(data):
            return
        kind, size, begin = _tag(data, at, order)
        if begin != at + 8 or begin + size > len(data):
            raise EventFileError(f"cut or damaged: a variable at byte {at} claims {size} bytes of {len(data)}")
        body, end = data[begin : begin + size], begin + size
        packed = kind == COMPRESSED
        matrix = body
        if packed:
            start = memoryview(_unpacked(body, LARGEST_DESCRIPTION))
            kind, size, _ = _tag(start, 0, order)
            matrix = start[8:]
        at = end if packed else end + -size % 8
        if kind == MATRIX and (variable := _described(matrix, order, body, packed, size)):
            yield variable
    raise EventFileError(f"more than {MOST_VARIABLES} variables; a recording has four")


def _described(matrix: memoryview, order: str, body: memoryview, packed: bool, size: int) -> Variable | None:
    """The variable at the beginning of a matrix; None if it is no array of numbers."""
    try:
        (_, flags_size, begin), (_, dims_size, dims), (_, name_size, name) = _elements(matrix, 3, order)
    except EventFileError:
        return None
    if flags_size != 8:
        return None
    (flags,) = struct.unpack_from(order + "I", matrix, begin)
    sides = np.frombuffer(matrix[dims : dims + dims_size // 4 * 4], order + "i4").tolist()
    if flags & 0xFF not in NUMERIC or len(sides) != 2 or min(sides) not in (0, 1):
        return None
    text = bytes(matrix[name : name + name_size]).decode("ascii", "replace")
    return Variable(text, max(sides) if min(sides) == 1 else 0, flags, body, packed, size)


def _numbers(variable: Variable, order: str) -> NDArray[Any]:
    name = variable.name
    if variable.flags & COMPLEX:
        raise EventFileError(f"the variable {name} holds complex numbers")
    most = LARGEST_DESCRIPTION + 8 * variable.length
    if variable.size > most:
        raise EventFileError(f"damaged: {name} claims {variable.size} bytes for {variable.length} numbers")
    if variable.packed and most > LARGEST_BYTES:
        raise EventFileError(
            f"{name} unpacks to {variable.size} bytes; up to {LARGEST_BYTES} are read: save it with -v7.3 instead"
        )
    matrix = variable.body
    if variable.packed:
        matrix = memoryview(_unpacked(variable.body, variable.size + 8))[8:]
    if len(matrix) < variable.size:
        raise EventFileError(f"cut or damaged: {name} has {len(matrix)} bytes of {variable.size}")
    *_, (kind, size, begin) = _elements(matrix, 4, order)
    if kind not in TYPES:
        raise EventFileError(f"damaged: {name} holds numbers of an unknown type {kind}")
    values = np.frombuffer(matrix[begin : begin + size], order + TYPES[kind]) if size % int(TYPES[kind][1]) == 0 else ()
    if len(values) != variable.length:
        raise EventFileError(f"damaged: {name} holds {len(values)} numbers of {variable.length}")
    return np.asarray(values)


def _elements(matrix: memoryview, count: int, order: str) -> list[tuple[int, int, int]]:
    """Type, size and first byte of the first elements in a matrix."""
    elements, at = [], 0
    for _ in range(count):
        kind, size, begin = _tag(matrix, at, order)
        if begin + size > len(matrix):
            raise EventFileError("cut or damaged: a part of a variable is longer than the variable")
        elements.append((kind, size, begin))
        at = at + 8 if begin == at + 4 else begin + size + -size % 8
    return elements


def _tag(data: memoryview, at: int, order: str) -> tuple[int, int, int]:
    """Type, size and first byte of an element; small ones are in the tag itself."""
    if at + 8 > len(data):
        raise EventFileError("cut or damaged: the MATLAB file ends in the middle of a variable")
    kind, size = struct.unpack_from(order + "II", data, at)
    if kind >> 16:
        return kind & 0xFFFF, min(kind >> 16, 4), at + 4
    return kind, size, at + 8


def _unpacked(packed: memoryview, most: int) -> bytes:
    with damage("packed variable", (zlib.error,)):
        return zlib.decompressobj().decompress(packed, most)
