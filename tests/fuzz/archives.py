"""Archives of arrays: `.npz` of any values, names and headers, and the packed variables of `.mat`."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.fuzz.bytes_damage import damaged, overwrite
from tests.fuzz.campaign import Files
from tests.fuzz.event_files import FILE, example

VALUES = (
    0,
    1,
    -1,
    7,
    255,
    34,
    65535,
    65536,
    2**31,
    -(2**31),
    2**40,
    10**18,
    2**62,
    2**63 - 1,
    -(2**63),
    np.nan,
    np.inf,
)
NUMBERS = ("i8", "u8", "i4", "u2", "u1", "i1", "?", "f8", "f4", "f2", ">i8")
TYPES = (*NUMBERS, "c16", "S3", "U2", "M8[us]", "m8[ns]")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ZIP_MARKS = (b"PK\1\2", b"PK\3\4", b"PK\5\6")


def npz_seeds() -> dict[str, Files]:
    """The columns of a recording, to be packed anew each time."""
    recording = example()
    columns = {name: getattr(recording, name) for name in "txyp"}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns, width=34, height=34)
    return {"columns": {FILE: buffer.getvalue(), **{name: column.tobytes() for name, column in columns.items()}}}


def npz_mutate(files: Files, rng: np.random.Generator) -> Files:
    """An archive of valid arrays with absurd values, of damaged arrays, or with damaged records of its members."""
    types = {"t": "i8", "x": "u2", "y": "u2", "p": "u1"}
    arrays = {name: np.frombuffer(files[name], kind).copy() for name, kind in types.items()}
    arrays |= {"width": np.array(34), "height": np.array(34)}
    choice = rng.random()
    if choice < 0.45:
        for name in rng.choice([*arrays], int(rng.integers(1, 4)), replace=False):
            arrays[name] = _absurd(arrays[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", METHODS[int(rng.integers(4))]) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            raw = member.getvalue()
            if 0.45 <= choice < 0.8 and rng.random() < 0.3:
                raw = _other_header(raw, rng) if rng.random() < 0.6 else damaged(raw, rng)
            archive.writestr(f"{name}.npy", raw)
    raw = bytearray(buffer.getvalue())
    if choice >= 0.8:
        mark = ZIP_MARKS[int(rng.integers(3))]
        places = [at for at in range(len(raw)) if raw.startswith(mark, at)]
        overwrite(raw, places[int(rng.integers(len(places)))] + int(rng.integers(4, 46)), rng)
    return {FILE: bytes(raw)}


def _absurd(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    choice = rng.integers(4)
    if choice == 0:
        return array.ravel()[: int(rng.integers(array.size + 1))]
    if choice == 1:
        return np.resize(array, [(2, 60), (0,), (), (120, 1), (1, 1, 120)][int(rng.integers(5))])
    kind = TYPES[int(rng.integers(len(TYPES)))]
    with np.errstate(all="ignore"):
        if choice == 2 or kind not in NUMBERS:
            return np.asarray(array).astype(kind)
        wide = np.array(array, object)
        some = rng.integers(array.size, size=3)
        np.put(wide, some, [VALUES[int(rng.integers(len(VALUES)))] for _ in some])
        return np.array([_fitted(value, kind) for value in wide.ravel()], kind).reshape(array.shape)


def _fitted(value: object, kind: str) -> object:
    """A value, wrapped around to an integer type."""
    if "f" in kind:
        return value
    number = 0 if value != value or value in (np.inf, -np.inf) else int(value)  # type: ignore[call-overload]
    if "?" in kind:
        return bool(number)
    bits = 8 * int(kind[-1])
    number %= 1 << bits
    return number - (1 << bits) if "i" in kind and number >> bits - 1 else number


def _other_header(raw: bytes, rng: np.random.Generator) -> bytes:
    """An array whose header, of the size that it states, says something else."""
    size = int.from_bytes(raw[8:10], "little")
    head, body = raw[10 : 10 + size], raw[10 + size :]
    count = (0, 1, 119, 121, 2**31, 2**40, 2**63, -1, 10**30)[int(rng.integers(9))]
    shapes = [b"(%d,)" % count, b"(%d, 2)" % count, b"(True,)", b"(1.5,)", b"('a',)", b"[120]", b"((120,),)"]
    kinds = [b"'O'", b"'|V0'", b"'<i16'", b"'<U1000000000'", b"[('a', '<i8'), ('a', '<i8')]", b"('<i8', (2,))", b"None"]
    before = {
        b"(120,)": shapes[int(rng.integers(len(shapes)))],
        b"'<i8'": kinds[int(rng.integers(len(kinds)))],
        b"False": [b"True", b"1", b"None", b"(" * 200][int(rng.integers(4))],
    }
    old = [*before][int(rng.integers(3))]
    head = head.replace(old, before[old], 1)
    return (
        raw[:6]
        + bytes([int(rng.integers(1, 4)) if rng.random() < 0.2 else 1, 0])
        + struct.pack("<H", len(head))
        + head
        + body
    )


def mat_seeds() -> dict[str, Files]:
    """ASL-DVS, packed and not."""
    recording, made = example(), {}
    columns = {"ts": recording.t, "x": recording.x, "y": recording.y, "pol": recording.p}
    with tempfile.TemporaryDirectory() as folder:
        for name, packed in (("packed", True), ("plain", False)):
            values = {key: column.astype(float)[:, None] for key, column in columns.items()}
            savemat(Path(folder) / "a.mat", values, do_compression=packed)
            made[name] = {FILE: (Path(folder) / "a.mat").read_bytes()}
    return made


def mat_mutate(files: Files, rng: np.random.Generator) -> Files:
    """Some variables are unpacked, damaged where their descriptions stand, and packed again."""
    content = files[FILE]
    out, at = bytearray(content[:128]), 128
    if rng.random() < 0.1:
        overwrite(out, int(rng.integers(116, 128)), rng)
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, at)
        body = content[at + 8 : at + 8 + size]
        at += 8 + size
        if rng.random() < 0.4:
            inner = bytearray(zlib.decompress(body) if kind == 15 else body)
            for _ in range(int(rng.integers(1, 4))):
                place = int(rng.integers(min(len(inner), 80 if rng.random() < 0.8 else len(inner))))
                overwrite(inner, place, rng)
            if rng.random() < 0.1:
                inner = bytearray(damaged(bytes(inner), rng))
            body = zlib.compress(bytes(inner)) if kind == 15 else bytes(inner)
            if rng.random() < 0.2:
                body = damaged(body, rng)
        tag = bytearray(struct.pack("<II", kind, len(body)))
        if rng.random() < 0.05:
            overwrite(tag, int(rng.integers(8)), rng)
        out += tag + body
    return {FILE: bytes(out)}
