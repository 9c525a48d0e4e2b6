"""AEDAT 2.0: the `.aedat` files of jAER, from a DVS128 (CIFAR10-DVS, MNIST-DVS) or a DAVIS.

Header lines `#...`, then big-endian pairs of a 32-bit address and 32-bit signed microseconds
(docs.inivation.com, "AEDAT 2.0"). The meaning of an address depends on the camera's class in jAER, so its code is the
source here (github.com/SensorsINI/jaer, `DVS128.java`, `DavisChip.java`, `DavisBaseCamera.java`):

    DVS128  bit 0 polarity, bits 1-7 x, bits 8-14 y; bit 15 or bit 31 set: an external event
    DAVIS   bit 31 set: a sample of a frame or of the IMU; else bit 10 set: an external event;
            else bit 11 polarity, bits 12-21 x, bits 22-30 y

Only pixel events are read. jAER counts x from the right (it shows width - 1 - x) and y from the bottom, for both
layouts, so both are flipped here. A DVS128's polarity bit is 0 for ON, as jAER, SpikingJelly and the authors' dat2mat.m
of CIFAR10-DVS read it, contrary to the table on iniVation's page; files whose bit is never set are therefore
all ON. A DAVIS's is 1 for ON.

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
from neuromoco.events.stream import PIECE, Columns, EventStream, ReadOptions, check_whole, records, starts_with

FORMAT = "AEDAT 2.0"
MAGIC = b"#!AER-DAT2."
RECORD = np.dtype((">u4", 2))  # address, time
LARGEST_HEADER = 1 << 22
looks_like_aedat2 = starts_with(MAGIC)
# A header line holds no control characters. Addresses may begin with "#" too: their low bits are 0, so that the only
# line they could be taken for is "#\n", which jAER, ending lines in \r\n, does not write.
HEADER_LINES = re.compile(rb"(?:#(?:[\t\x20-\x7e\x80-\xff]++\r?|\r)\n)*+")
NAMED_CHIP = re.compile(rb"^#[ \t]*AEChip:[ \t]*(\S+)", re.MULTILINE)
NAMED_INTERFACE = re.compile(rb"^#[ \t]*HardwareInterface:[^\r\n]*?(DVS128|DAVIS)", re.MULTILINE | re.IGNORECASE)
# Sensors, and how the names of their classes in jAER begin after the package, in lower case.
CHIPS = {
    (128, 128): ("dvs128", "davis128"),
    (240, 180): ("davis240", "sbret10"),
    (346, 260): ("davis346", "davi346"),
    (640, 480): ("davis640",),
    (208, 192): ("davis208",),
}


class Layout(NamedTuple):
    """The bits of an address; masks apply after shifts."""

    name: str
    not_events: int  # an address with one of these bits is no event of a pixel
    unused: int  # an event's address with one of these bits is damaged
    polarity: int
    on: int  # value of the polarity bit for ON
    x_shift: int
    x_mask: int
    y_shift: int
    y_mask: int


DVS128 = Layout("DVS128", 1 << 31 | 1 << 15, 0x7FFF0000, 0, 0, 1, 0x7F, 8, 0x7F)
DAVIS = Layout("DAVIS", 1 << 31 | 1 << 10, 0, 11, 1, 12, 0x3FF, 22, 0x1FF)


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
    layout, (width, height) = _camera(head[:begin], first[:, 0], options)
    return EventStream(FORMAT, _pieces(path, begin, layout, width, height), width, height)


def _camera(header: bytes, addresses: NDArray[np.uint32], options: ReadOptions) -> tuple[Layout, tuple[int, int]]:
    """The camera that the header names, else the user, else the one that the first addresses allow."""
    layout: Layout | None = None
    sensor = options.sensor
    if named := NAMED_CHIP.search(header):
        name = named[1].decode("latin-1").rsplit(".", 1)[-1]
        lower = name.lower()
        known = next((size for size, names in CHIPS.items() if lower.startswith(names)), None)
        layout = DVS128 if lower.startswith("dvs128") else DAVIS
        if known is None and "davis" not in lower:
            raise EventFileError(f"an AEDAT 2.0 file of the camera {name[:60]!r}; those of DVS128 and DAVIS are read")
        sensor = sensor or known
    elif named := NAMED_INTERFACE.search(header):
        layout = DVS128 if named[1].upper() == b"DVS128" else DAVIS
    if layout is None:
        of_pixels = addresses[addresses < 1 << 31]
        narrow = sensor in (None, (128, 128)) and (not of_pixels.size or int(of_pixels.max()) < 1 << 16)
        layout = DVS128 if narrow else DAVIS
    if layout is DVS128:
        if sensor not in (None, (128, 128)):
            raise EventFileError(f"a DVS128, which has 128 x 128 pixels, not the {sensor[0]} x {sensor[1]} of --sensor")
        return DVS128, (128, 128)
    if sensor is None:
        raise EventFileError("a DAVIS of unknown size: give --sensor WIDTHxHEIGHT, such as 240x180 or 346x260")
    return DAVIS, sensor


def _pieces(path: Path, begin: int, layout: Layout, width: int, height: int) -> Iterator[Columns]:
    clock = Clock()
    count = events = 0
    for raw in records(path, RECORD, begin, PIECE):
        address, time = raw[:, 0].astype(np.uint32), raw[:, 1].astype(np.int32)
        count += address.size
        other = address & np.uint32(layout.not_events) != 0
        if other.any():
            address, time = address[~other], time[~other]
        if layout.unused and np.any(wrong := address & np.uint32(layout.unused) != 0):
            raise EventFileError(
                f"an address of {int(address[wrong.argmax()]):#010x} is none of a {layout.name}: "
                "the file is damaged, or of a DAVIS: give --sensor WIDTHxHEIGHT"
            )
        events += address.size
        if address.size:
            x = (width - 1) - (address >> layout.x_shift & layout.x_mask).astype(np.int32)
            y = (height - 1) - (address >> layout.y_shift & layout.y_mask).astype(np.int32)
            p = (address >> layout.polarity & 1 ^ (1 - layout.on)).astype(np.uint8)
            yield Columns(clock.unwrap(time), x, y, p)
    if count and not events:
        raise EventFileError(f"the AEDAT 2.0 file holds {count} samples of frames or others, and no events")


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
