"""AEDAT4 bytes after the published layout, for tests: flatbuffers, one stream of events in one packet."""

from __future__ import annotations

import importlib
import struct
import sys
from pathlib import Path
from typing import Any

import flatbuffers

from neuromoco import Recording

INFO = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/">
<attr key="compression" type="string">NONE</attr><attr key="originalModuleName" type="string">test</attr>
<attr key="originalOutputName" type="string">events</attr><attr key="typeDescription" type="string">events</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/">
<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr>
<attr key="source" type="string">test</attr></node></node></node></dv>
"""


def write_aedat4(path: Path, recording: Recording | None) -> None:
    """Writes a recording as one packet, or a file with an event stream and no packet."""
    width, height = (recording.width, recording.height) if recording else (34, 34)
    content = b"#!AER-DAT4.0\r\n" + header(INFO.format(width=width, height=height))
    if recording:
        content += numbered(packet(recording))
    path.write_bytes(content)


def numbered(content: bytes, stream: int = 0) -> bytes:
    """A packet after the number of its stream and its size."""
    return struct.pack("<ii", stream, len(content)) + content


def header(info: str, compression: int = 0, table_at: int = -1) -> bytes:
    """The size of the flatbuffer IOHeader, and it."""
    builder = flatbuffers.Builder(4096)
    text = builder.CreateString(info)
    builder.StartObject(3)
    builder.PrependInt32Slot(0, compression, -1)
    builder.PrependInt64Slot(1, table_at, 0)  # no table of packets
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    builder.FinishSizePrefixed(builder.EndObject(), b"IOHE")
    return bytes(builder.Output())


def packet(recording: Recording) -> bytes:
    """The size of the flatbuffer EventPacket, and it."""
    builder = flatbuffers.Builder(1 << 16)
    builder.StartVector(16, len(recording), 8)
    for t, x, y, p in zip(*(getattr(recording, name)[::-1].tolist() for name in ("t", "x", "y", "p")), strict=True):
        builder.Prep(8, 16)
        builder.Pad(3)
        builder.PrependBool(bool(p))
        builder.PrependInt16(y)
        builder.PrependInt16(x)
        builder.PrependInt64(t)
    events = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, events, 0)
    builder.FinishSizePrefixed(builder.EndObject(), b"EVTS")
    return bytes(builder.Output())


def write_packed_aedat4(path: Path, recording: Recording, packing: str, zeros: int = 0, table_at: int = -1) -> None:
    """Writes a recording as one packet that is packed with "lz4" or "zstd", with so many zeros behind it."""
    head = header(INFO.format(width=recording.width, height=recording.height), {"lz4": 1, "zstd": 3}[packing], table_at)
    if packing == "lz4":
        packer: Any = importlib.import_module("lz4.frame").LZ4FrameCompressor()
    else:
        module = "backports.zstd" if sys.version_info < (3, 14) else "compression.zstd"
        packer = importlib.import_module(module).ZstdCompressor()
    parts = [packer.begin()] if packing == "lz4" else []
    parts.append(packer.compress(packet(recording)))
    piece = bytes(1 << 24)
    parts += [packer.compress(piece) for _ in range(zeros // len(piece))]
    path.write_bytes(b"#!AER-DAT4.0\r\n" + head + numbered(b"".join([*parts, packer.flush()])))
