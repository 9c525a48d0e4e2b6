"""Events to frames in ONNX operators, as `neuromoco.frames.to_frames` computes them.

The exporter writes them from here, and a file that takes events is compared with them word for word: their sizes depend
on the events, so that nothing else can say beforehand what they would do.

ScatterElements adds up the counts. (ScatterND with the same reduction loses events in ONNX Runtime 1.32 on several
threads.) For an event outside the sensor the runtime raises an error; it never counts in a wrong pixel.
"""

from __future__ import annotations

import functools

import numpy as np

from neuromoco.config import FrameConfig
from neuromoco.frames import POLARITIES
from neuromoco.runtime.onnx_guard.model import INT32, INT64
from neuromoco.runtime.onnx_guard.operator_sets import Handle, Tape, reduced

# Names and types of the inputs, columns with one entry per event, sorted by time.
COLUMNS = {"t": INT64, "x": INT32, "y": INT32, "p": INT32}


def bin_events(tape: Tape[Handle], columns: dict[str, Handle], sensor: Handle, config: FrameConfig) -> Handle:
    """Frames [T, P, H, W] of one recording in the inputs of `COLUMNS`; the sensor is int64 [2], rows and columns."""
    x, y, p = (tape.op("Cast", columns[name], to=INT64) for name in "xyp")
    t = columns["t"]
    if config.crop is not None:
        left, top, *size = map(int, config.crop)
        x, y = tape.op("Sub", x, tape.ints(left)), tape.op("Sub", y, tape.ints(top))
        kept = tape.op("And", _below(tape, x, tape.ints(size[0])), _below(tape, y, tape.ints(size[1])))
        t, x, y, p = (tape.op("Compress", column, kept, axis=0) for column in (t, x, y, p))
        sensor = tape.ints(size[1], size[0])
    count = tape.op("Shape", x)
    step = (_by_count if config.slice_by == "count" else _by_time)(tape, t, count, config.steps)
    # Sides of the counted frames: those of the result, or the sensor's where it is smaller.
    sides = tape.op("Min", sensor, tape.ints(config.height, config.width))
    rows, wide, height, width = (
        tape.op("Gather", pair, tape.ints(i), axis=0) for pair in (sides, sensor) for i in (0, 1)
    )
    shape = tape.op("Concat", tape.ints(config.steps, POLARITIES), sides, axis=0)
    cells = reduced(tape, "ReduceProd", shape, 0, keepdims=1)
    row = tape.op("Div", tape.op("Mul", y, rows), height)
    column = tape.op("Div", tape.op("Mul", x, wide), width)
    plane = tape.op("Add", tape.op("Mul", step, tape.ints(POLARITIES)), p)
    line = tape.op("Add", tape.op("Mul", plane, rows), row)
    cell = tape.op("Add", tape.op("Mul", line, wide), column)
    limits = [(x, width), (y, height), (p, tape.ints(POLARITIES)), (step, tape.ints(config.steps))]
    inside = functools.reduce(lambda a, b: tape.op("And", a, b), [_below(tape, *pair) for pair in limits])
    cell = tape.op("Where", inside, cell, cells)  # one past the end, which the runtime refuses
    zeros = tape.op("ConstantOfShape", cells, value=np.zeros(1, np.float32))
    ones = tape.op("Expand", tape.constant([1.0]), count)
    counts = tape.op("ScatterElements", zeros, cell, ones, axis=0, reduction="add")
    frames = tape.op("Reshape", counts, shape)
    return _grow(tape, _grow(tape, frames, rows, config.height, axis=2), wide, config.width, axis=3)


def _by_count(tape: Tape[Handle], t: Handle, count: Handle, steps: int) -> Handle:
    """Event e is in step e // (E // T), the remainder in the last; so are all of fewer than T events."""
    each = tape.op("Div", count, tape.ints(steps))
    scalar = tape.op("Squeeze", count)
    index = tape.op("Range", tape.constant(0, np.int64), scalar, tape.constant(1, np.int64))
    step = tape.op("Div", index, tape.op("Max", each, tape.ints(1)))
    few = tape.op("Mul", tape.op("Cast", tape.op("Equal", each, tape.ints(0)), to=INT64), tape.ints(steps))
    return tape.op("Min", tape.op("Add", step, few), tape.ints(steps - 1))


def _by_time(tape: Tape[Handle], t: Handle, count: Handle, steps: int) -> Handle:
    """An event at t is in step (t - first) * T // (last - first + 1)."""
    first = tape.op("Slice", t, tape.ints(0), tape.ints(1))
    last = tape.op("Slice", t, tape.ints(-1), tape.constant([np.iinfo(np.int64).max], np.int64))
    span = tape.op("Add", tape.op("Sub", last, first), tape.ints(1))
    return tape.op("Div", tape.op("Mul", tape.op("Sub", t, first), tape.ints(steps)), span)


def _below(tape: Tape[Handle], value: Handle, limit: Handle) -> Handle:
    """Whether 0 <= value < limit."""
    return tape.op("And", tape.op("GreaterOrEqual", value, tape.ints(0)), tape.op("Less", value, limit))


def _grow(tape: Tape[Handle], frames: Handle, counted: Handle, side: int, axis: int) -> Handle:
    """Repeats rows or columns up to `side` of them, by nearest neighbour."""
    index = tape.constant(np.arange(side), np.int64)
    source = tape.op("Div", tape.op("Mul", index, counted), tape.ints(side))
    return tape.op("Gather", frames, source, axis=axis)
