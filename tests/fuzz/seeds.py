"""Valid files of formats that are read and not written, after the published layouts."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from scipy.io import savemat

from neuromoco import Recording
from tests.helpers.aedat4_writer import write_packed_aedat4
from tests.helpers.outcomes import rows
from tests.helpers.ros_writers import PACKET, bag, ros1_packet


def aedat2(recording: Recording) -> bytes:
    """A DAVIS240 with a frame sample and an external event between."""
    head = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
    words = [(y << 22 | x << 12 | p << 11, t) for t, x, y, p in rows(recording)]
    words[5:5] = [(1 << 31 | 77, words[5][1]), (1 << 10, words[5][1])]
    return head + b"".join(struct.pack(">Ii", *word) for word in words)


def aedat3(recording: Recording) -> bytes:
    """Two packets of polarities, one of special events."""
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    events = [struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in rows(recording)]

    def packet(kind: int, some: list[bytes]) -> bytes:
        return struct.pack("<hhiiiiii", kind, 1, 8, 4, 0, len(some), len(some), len(some)) + b"".join(some)

    return head + packet(1, events[:70]) + packet(0, events[:2]) + packet(1, events[70:])


def dat(recording: Recording) -> bytes:
    """Version 2."""
    head = b"% Data file containing CD events.\n% Version 2\n% Height 34\n% Width 34\n" + bytes([12, 8])
    return head + b"".join(struct.pack("<II", t, p << 28 | y << 14 | x) for t, x, y, p in rows(recording))


def es(recording: Recording) -> bytes:
    """Version 2, with overflows of the time."""
    out = bytearray(b"Event Stream" + bytes([2, 0, 0, 1]) + struct.pack("<HH", recording.width, recording.height))
    now = 0
    for t, x, y, p in rows(recording):
        overflows, rest = divmod(t - now, 127)
        out += bytes([0b11111110]) * overflows
        out += bytes([rest << 1 | p]) + struct.pack("<HH", x, y)
        now = t
    return bytes(out)


def _metavision(recording: Recording, **codec: Any) -> bytes:
    events = np.zeros(len(recording), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "txyp":
        events[name] = getattr(recording, name)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("CD/events", data=events, chunks=(32,), **codec)
    return buffer.getvalue()


def hdf5(recording: Recording) -> bytes:
    """Metavision's records, compressed."""
    return _metavision(recording, compression="gzip")


def hdf5_blosc(recording: Recording) -> bytes:
    """The same with Blosc, as DSEC uses it."""
    return _metavision(recording, **hdf5plugin.Blosc(cname="zstd"))


def hdf5_lz4(recording: Recording) -> bytes:
    """The same with LZ4."""
    return _metavision(recording, **hdf5plugin.LZ4())


def _packed(recording: Recording, packing: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_packed_aedat4(Path(folder) / "a", recording, packing)
        return (Path(folder) / "a").read_bytes()


def aedat4_lz4(recording: Recording) -> bytes:
    """A packet in an LZ4 frame."""
    return _packed(recording, "lz4")


def aedat4_zstd(recording: Recording) -> bytes:
    """A packet in a Zstandard frame."""
    return _packed(recording, "zstd")


def dsec(recording: Recording) -> bytes:
    """Columns and an offset of the time."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", data=getattr(recording, name).astype(np.uint32))
        file.create_dataset("t_offset", data=5_000_000)
    return buffer.getvalue()


def npy(recording: Recording) -> bytes:
    """Records with names."""
    events = np.zeros(len(recording), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])
    for name in "txyp":
        events[name] = getattr(recording, name)
    buffer = io.BytesIO()
    np.save(buffer, events)
    return buffer.getvalue()


def mat(recording: Recording) -> bytes:
    """ASL-DVS."""
    names = {"t": "ts", "x": "x", "y": "y", "p": "pol"}
    columns = {other: getattr(recording, name).astype(float)[:, None] for name, other in names.items()}
    with tempfile.TemporaryDirectory() as folder:
        savemat(Path(folder) / "a.mat", columns, do_compression=True)
        return (Path(folder) / "a.mat").read_bytes()


def evt3_words(recording: Recording) -> bytes:
    """The events as EVT3 sends them, without vectors."""
    words = []
    for t, x, y, p in rows(recording):
        words += [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x]
    return struct.pack(f"<{len(words)}H", *words)


def ros1(recording: Recording) -> bytes:
    """A bag of two packets."""
    content = evt3_words(recording)
    half = len(content) // 2 // 8 * 8
    parts = (content[:half], content[half:])
    return bag([("/camera", PACKET, ros1_packet(part, sensor=(34, 34))) for part in parts])


def text(recording: Recording) -> bytes:
    """Blanks, seconds, polarity -1 and 1, no header."""
    return "".join(f"{t / 1e6:.6f} {x} {y} {2 * p - 1}\n" for t, x, y, p in rows(recording)).encode()


SEEDS: dict[str, Callable[[Recording], bytes]] = {
    build.__name__: build
    for build in (
        *(aedat2, aedat3, aedat4_lz4, aedat4_zstd, dat, es, hdf5, hdf5_blosc, hdf5_lz4, dsec),
        *(npy, mat, ros1, text),
    )
}
