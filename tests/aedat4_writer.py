"""AEDAT4 bytes after the published layout, for tests: flatbuffers, uncompressed, one stream of events."""

from __future__ import annotations

import struct
from pathlib import Path

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
    content = b"#!AER-DAT4.0\r\n" + _header(INFO.format(width=width, height=height))
    if recording:
        packet = _packet(recording)
        content += struct.pack("<ii", 0, len(packet)) + packet
    path.write_bytes(content)


def _header(info: str) -> bytes:
    builder = flatbuffers.Builder(4096)
    text = builder.CreateString(info)
    builder.StartObject(3)
    builder.PrependInt32Slot(0, 0, -1)  # compression: none
    builder.PrependInt64Slot(1, -1, 0)  # no table of packets
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    builder.FinishSizePrefixed(builder.EndObject(), b"IOHE")
    return bytes(builder.Output())


def _packet(recording: Recording) -> bytes:
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
