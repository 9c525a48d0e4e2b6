"""Records of 16 bytes, one an event, little-endian: what the server's WebSocket and `neuromoco live` take."""

from __future__ import annotations

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events import Recording

# Time in microseconds, column, row, polarity (1 brighter, 0 darker), and three bytes that are 0.
RECORD = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1"), ("zero", "u1", 3)])
SOURCE = "records of 16 bytes"


def read_records(data: bytes | bytearray | memoryview, sensor: tuple[int, int]) -> Recording:
    """The events in whole records.

    Args:
        data: the records; times may step back a little.
        sensor: width and height.

    Raises:
        EventFileError: no whole number of records, or one that is none of this sensor.
    """
    if len(data) % RECORD.itemsize:
        raise EventFileError(f"{len(data):,} bytes are no whole number of records of {RECORD.itemsize} bytes")
    records = np.frombuffer(data, RECORD)
    width, height = sensor
    x, y, p = (np.ascontiguousarray(records[name]) for name in "xyp")
    if records.size and (x.max() >= width or y.max() >= height or p.max() > 1 or records["zero"].any()):
        bad = (x >= width) | (y >= height) | (p > 1) | records["zero"].any(1)
        at = int(bad.argmax())
        place = f"x={x[at]}, y={y[at]}, p={p[at]}"
        raise EventFileError(
            f"record {at} is {place} on a sensor of {width} x {height}; p is 0 or 1, then come 3 zeros"
        )
    return Recording(np.ascontiguousarray(records["t"]).astype(np.int64), x, y, p, width, height, SOURCE)


def write_records(recording: Recording) -> bytes:
    """A recording as such records."""
    records = np.zeros(len(recording), RECORD)
    for name in "txyp":
        records[name] = getattr(recording, name)
    return records.tobytes()
