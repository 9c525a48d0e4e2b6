"""AEDAT 2.0: the `.aedat` files of jAER, from a DVS128 (CIFAR10-DVS, MNIST-DVS) or a DAVIS, and of v2e.

Header lines `#...`, then big-endian pairs of a 32-bit address and 32-bit signed microseconds
(docs.inivation.com, "AEDAT 2.0"). The meaning of an address depends on the camera's class in jAER, so its code is the
source here (github.com/SensorsINI/jaer, `DVS128.java`, `DVS640.java`, `DavisChip.java`,
`DavisBaseCamera.java`):

    DVS128  bit 0 polarity, bits 1-7 x, bits 8-14 y; bit 15 or bit 31 set: an external event
    DAVIS   bit 31 set: a sample of a frame or of the IMU; else bit 10 set: an external event;
            else bit 11 polarity, bits 12-21 x, bits 22-30 y
    DVS640  bit 0 polarity, bits 1-10 x, bits 11-20 y; of v2e (`v2ecore/output/aedat2_output.py`)

Files without a line `# AEChip` are of the layout that their addresses have: those of a DAVIS's pixels end in 10 zeros,
those of a DVS128 have 16 bits. Others are read as those of a DVS640 if v2e wrote them, or if the user says its size.

Only pixel events are read. jAER counts x from the right (it shows width - 1 - x) and y from the bottom, for all
layouts, so both are flipped here. A DVS128's polarity bit is 0 for ON, as jAER, SpikingJelly and the authors' dat2mat.m
of CIFAR10-DVS read it, contrary to the table on iniVation's page; files whose bit is never set are therefore
all ON. Those of the others are 1 for ON.

CIFAR10-DVS: SpikingJelly and tonic also exchange x and y, which turns the camera's picture upright. That is specific to
the data set, not to the camera, and is not done here: exchange both columns to get their frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.extent import MOST_STRAY
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import Columns, EventStream, check_whole, records, starts_with

PIECE = 1 << 17  # events that are decoded at once; more do not stay in the processor's cache
FORMAT = "AEDAT 2.0"
MAGIC = b"#!AER-DAT2."
RECORD = np.dtype((">u4", 2))  # address, time
LARGEST_HEADER = 1 << 22
looks_like_aedat2 = starts_with(MAGIC)
# A header line holds no control characters. Addresses may begin with "#" too: their low bits are 0, so that the only
# line they could be taken for is "#\n", which jAER, ending lines in \r\n, does not write.
HEADER_LINES = re.compile(rb"(?:#(?:[\t\x20-\x7e\x80-\xff]++\r?|\r)\n)*+")
NAMED_CHIP = re.compile(rb"^#[ \t]*AEChip:[ \t]*(\S+)", re.MULTILINE)
BY_V2E = re.compile(rb"^#[^\r\n]*AEDat2Output in v2e", re.MULTILINE)
NAMED_INTERFACE = re.compile(rb"^#[ \t]*HardwareInterface:[^\r\n]*?(DVS128|DAVIS)", re.MULTILINE | re.IGNORECASE)
# Sensors, and how the names of their classes in jAER begin after the package, in lower case.
CHIPS = {
    (128, 128): ("dvs128", "davis128"),
    (240, 180): ("davis240", "sbret10"),
    (346, 260): ("davis346", "davi346"),
    (640, 480): ("davis640", "dvs640"),
    (208, 192): ("davis208",),
}


class Layout(NamedTuple):
    """The bits of an address; masks apply after shifts."""

    name: str
    sensor: tuple[int, int] | None  # if all have the same
    not_events: int  # an address with one of these bits is no event of a pixel
    unused: int  # an address with one of these bits is of no pixel of this camera
    polarity: int
    on: int  # value of the polarity bit for ON
    x_shift: int
    x_mask: int
    y_shift: int
    y_mask: int


DVS128 = Layout("DVS128", (128, 128), 1 << 31 | 1 << 15, 0x7FFF0000, 0, 0, 1, 0x7F, 8, 0x7F)
DVS640 = Layout("DVS640", (640, 480), 1 << 31, 0x7FE00000, 0, 1, 1, 0x3FF, 11, 0x3FF)
DAVIS = Layout("DAVIS", None, 1 << 31 | 1 << 10, 0, 11, 1, 12, 0x3FF, 22, 0x1FF)


def open_aedat2(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; frames, IMU samples and external events are skipped."""
    with path.open("rb") as file:
        head = file.read(LARGEST_HEADER)
    matched = HEADER_LINES.match(head)
    begin = matched.end() if matched else 0
    if begin <= len(MAGIC):
        first_line = head[:100].split(b"\n")[0]
        raise EventFileError(f"the AEDAT 2.0 header does not end: its first line is {first_line!r}")
    if begin > LARGEST_HEADER - len(MAGIC):
        raise EventFileError(f"the AEDAT 2.0 header is longer than {LARGEST_HEADER} bytes: damaged")
    check_whole(path, begin, RECORD.itemsize, "AEDAT 2.0 records", options.salvage)
    first = next(records(path, RECORD, begin, PIECE), np.empty((0, 2), np.uint32))
    layout, (width, height) = camera_of(head[:begin], first[:, 0], options)
    parts = (path.stat().st_size - begin) / (RECORD.itemsize * PIECE)
    return EventStream(FORMAT, _pieces(path, begin, layout, width, height), width, height, parts=parts)


def camera_of(header: bytes, addresses: NDArray[np.uint32], options: ReadOptions) -> tuple[Layout, tuple[int, int]]:
    """The camera that the header names, else the one that the first addresses show; and the size of its sensor."""
    sensor = options.sensor
    if named := NAMED_CHIP.search(header):
        name = named[1].decode("latin-1").rsplit(".", 1)[-1]
        lower = name.lower()
        known = next((size for size, names in CHIPS.items() if lower.startswith(names)), None)
        layout = next((one for one in (DVS128, DVS640) if lower.startswith(one.name.lower())), DAVIS)
        if known is None and "davis" not in lower:
            raise EventFileError(f"an AEDAT 2.0 file of the camera {name[:60]!r}; those of DVS128 and DAVIS are read")
        sensor = sensor or known
    elif named := NAMED_INTERFACE.search(header):
        layout = DVS128 if named[1].upper() == b"DVS128" else DAVIS
    else:
        layout = _layout_of(addresses, DVS640.sensor if sensor is None and BY_V2E.search(header) else sensor)
    if sensor not in (None, layout.sensor) and layout.sensor:
        width, height = layout.sensor
        raise EventFileError(
            f"a {layout.name}, which has {width} x {height} pixels, not the {sensor[0]} x {sensor[1]} of --sensor"
        )
    sensor = layout.sensor or sensor
    if sensor is None:
        raise EventFileError("a DAVIS of unknown size: give --sensor WIDTHxHEIGHT, such as 240x180 or 346x260")
    return layout, sensor


def _layout_of(addresses: NDArray[np.uint32], sensor: tuple[int, int] | None) -> Layout:
    """The layout of addresses; of a sensor that is known from elsewhere, where they do not show it."""
    of_pixels = addresses[addresses < 1 << 31]
    stray = MOST_STRAY * of_pixels.size
    narrow = np.count_nonzero(of_pixels >= 1 << 16) <= stray
    davis = np.count_nonzero((of_pixels & 1 << 10 == 0) & (of_pixels & 0x3FF != 0)) <= stray
    if narrow and davis:  # too few to tell
        return DVS128 if sensor in (None, DVS128.sensor) else DAVIS
    if davis:
        return DAVIS
    if narrow and sensor != DVS640.sensor:
        return DVS128
    if sensor != DVS640.sensor:
        raise EventFileError(
            "the header names no camera, and the addresses are none of a DVS128 or a DAVIS: if they are of a DVS640, "
            "give --sensor 640x480"
        )
    return DVS640


def _pieces(path: Path, begin: int, layout: Layout, width: int, height: int) -> Iterator[Columns]:
    decoder = Decoder(layout, width, height)
    count = events = 0
    for raw in records(path, RECORD, begin, PIECE):
        piece = decoder.decode(raw)
        count, events = count + len(raw), events + len(piece.t)
        if len(piece.t):
            yield piece
    if count and not events:
        raise EventFileError(f"the AEDAT 2.0 file holds {count} samples of frames or others, and no events")


class Decoder:
    """Decodes records piece by piece."""

    def __init__(self, layout: Layout, width: int, height: int) -> None:
        self._layout, self._width, self._height = layout, width, height
        self._clock = Clock()

    def decode(self, raw: NDArray[np.uint32]) -> Columns:
        """The pixel events of records [N, 2]; those of no pixel of the camera lie outside the sensor."""
        layout = self._layout
        address, time = raw[:, 0].astype(np.uint32), raw[:, 1].astype(np.int32)
        other = address & np.uint32(layout.not_events) != 0
        if other.any():
            address, time = address[~other], time[~other]
        x = (self._width - 1) - (address >> layout.x_shift & layout.x_mask).astype(np.int32)
        y = (self._height - 1) - (address >> layout.y_shift & layout.y_mask).astype(np.int32)
        p = (address >> layout.polarity & 1 ^ (1 - layout.on)).astype(np.uint8)
        if layout.unused and np.any(wrong := address & np.uint32(layout.unused) != 0):
            x[wrong] = -1  # outside the sensor
        return Columns(self._clock.unwrap(time) if len(time) else time.astype(np.int64), x, y, p)


class Clock:
    """Continues 32-bit times over their overflow, after 36 minutes from 0 and every 72 minutes from then on.

    The shorter way from one time to the next is taken, so an overflow differs from a step back.
    """

    def __init__(self) -> None:
        self._reading: NDArray[np.int32] | None = None  # the last one
        self._t = 0  # the last time

    def unwrap(self, time: NDArray[np.int32]) -> NDArray[np.int64]:
        """Times in microseconds, int64 [E], of the next events; at least one."""
        if self._reading is None:
            self._reading, self._t = time[:1], int(time[0])
        steps = np.diff(time, prepend=self._reading)  # wraps around, as intended
        t = self._t + np.cumsum(steps, dtype=np.int64)
        self._reading, self._t = time[-1:], int(t[-1])
        return t
