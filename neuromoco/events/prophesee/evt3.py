"""EVT3: 16-bit words, each with only what changed since the word before.

Layout: https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html. A word is 4 bits of type and 12 bits:

    0x0 ADDR_Y       1 camera, 11 y
    0x2 ADDR_X       1 polarity, 11 x: one event
    0x3 VECT_BASE_X  1 polarity, 11 x: where the next vector begins
    0x4 VECT_12      one bit for each of 12 pixels; the next vector begins 12 further
    0x5 VECT_8       one bit for each of 8 pixels; the next vector begins 8 further
    0x6 TIME_LOW, 0x8 TIME_HIGH: the low and high half of 24 bits of microseconds
    0x7, 0xA, 0xD, 0xE, 0xF: continued words, triggers, IMU samples and monitoring, skipped
    0x9999               padding, which some cameras send (Lucid), skipped

A TIME_HIGH of another value sets the low half to 0 until the next TIME_LOW. Some cameras let times step back by a few
microseconds; they are not changed. Events before the first TIME_HIGH and ADDR_Y have no time or place and are omitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.prophesee.header import Clock, bits_of, check_types
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.stream import Columns

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
VECTORS = bits_of(VECT_12, VECT_8)
PADDING = 0x9999
PADDED = bits_of(PADDING >> 12)
KNOWN = bits_of(ADDR_Y, ADDR_X, VECT_BASE_X, TIME_LOW, 0x7, TIME_HIGH, 0xA, 0xD, 0xE, 0xF) | VECTORS | PADDED
# Pixels of an event word. ADDR_X is a vector of one pixel: its mask is set to 1.
PIXELS = np.zeros(16, np.uint16)
PIXELS[VECT_12], PIXELS[VECT_8] = 0xFFF, 0xFF
FARTHEST = 1 << 20  # columns; far outside of every sensor


CAMERAS = {"master": 0, "slave": 1}  # of a pair; the bit of ADDR_Y


class Evt3Decoder:
    """Decodes EVT3 piece by piece: the events of one camera of `CAMERAS`, or of the only one."""

    def __init__(self, camera: int | None = None) -> None:
        self.camera = camera
        self.row_bits = 0x7FF if camera is None else 0xFFF
        self.clock = Clock(1 << 12, 8)  # steps back by less than 33 ms
        self.high, self.low, self.y = -1, 0, -1  # -1: not known yet
        self.base, self.base_p = -1, 0  # where the next vector begins
        self.cameras: set[int] = set()

    def decode(self, words: NDArray[np.uint16]) -> Columns:
        """Decodes uint16 words [N], N below 2^26."""
        types = (words >> 12).astype(np.uint8)
        present = check_types(types, KNOWN, "EVT3")
        if present & PADDED:
            check_types(np.where(words == PADDING, np.uint8(TIME_LOW), types), KNOWN & ~PADDED, "EVT3")
        known = self.high >= 0 and self.y >= 0
        rows, row_of = self._rows(words, types)
        times, time_of = self._times(words, types)
        is_event = types == ADDR_X
        if present & VECTORS:
            is_event |= (types | 1) == VECT_8
        at = np.flatnonzero(is_event)
        t, y = times.take(time_of.take(at)), rows.take(row_of.take(at))
        x: NDArray[Any]
        if present & VECTORS:
            of_event, x, p = self._vectors(words, types, at)
            t, y = t.take(of_event), y.take(of_event)
        else:
            event = words.take(at)
            x, p = event & 0x7FF, (event >> 11 & 1).astype(np.uint8)
            bases = words[np.flatnonzero(types == VECT_BASE_X)]
            if bases.size:
                self.base, self.base_p = int(bases[-1] & 0x7FF), int(bases[-1] >> 11 & 1)
        if not known:
            good = np.flatnonzero((t >= 0) & (y >= 0))
            t, x, y, p = t[good], x[good], y[good], p[good]
        if self.camera is not None:
            good = np.flatnonzero(y >> 11 == self.camera)
            t, x, y, p = t[good], x[good], y[good] & 0x7FF, p[good]
        if present & VECTORS:  # a vector may go on beyond every sensor
            np.minimum(x, LARGEST_SIDE, out=x)
        return Columns(t, x.astype(np.uint16, copy=False), y.view(np.uint16), p)

    def _rows(self, words: NDArray[np.uint16], types: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[Any]]:
        """Rows in their order, beginning with that of the piece before; and the index of the row of every word."""
        here = types == ADDR_Y
        addresses = words.take(np.flatnonzero(here))
        if addresses.size and self.camera is None:
            self.cameras |= {int(ufunc.reduce(addresses)) >> 11 & 1 for ufunc in (np.bitwise_and, np.bitwise_or)}
            if len(self.cameras) > 1:
                raise EventFileError(
                    f"the EVT3 file holds events of two cameras: give --select with one of {', '.join(CAMERAS)}"
                )
        rows = np.concatenate((np.array([self.y], np.int16), (addresses & self.row_bits).view(np.int16)))
        self.y = int(rows[-1])
        return rows, np.cumsum(here, dtype=np.int32)

    def _times(self, words: NDArray[np.uint16], types: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Times in their order, beginning with that of the piece before; and the index of the time of every word."""
        at_high = np.flatnonzero(types == TIME_HIGH)
        highs = np.concatenate(([self.high], self.clock.unwrap(words.take(at_high) & 0xFFF)))
        # The low half comes from TIME_LOW, or is 0 after a TIME_HIGH of another value; the same value changes nothing.
        news = np.flatnonzero(highs[1:] != highs[:-1])
        here = types == TIME_LOW
        here[at_high[news]] = True
        word = words.take(np.flatnonzero(here))
        is_high = word >= TIME_HIGH << 12
        highs = highs.take(np.concatenate(([0], news + 1)))
        times = (highs << 12).take(np.cumsum(np.concatenate(([False], is_high)), dtype=np.int32))
        word &= 0xFFF
        word *= ~is_high
        times |= np.concatenate(([self.low], word))
        self.high, self.low = int(times[-1]) >> 12, int(times[-1]) & 0xFFF
        return times, np.cumsum(here, dtype=np.int32)  # before the first TIME_HIGH, times are below 0

    def _vectors(
        self, words: NDArray[np.uint16], types: NDArray[np.uint8], at: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]:
        """For every event of the words `at`: the index of its word in `at`, x and polarity."""
        event, kind = words.take(at), types.take(at)
        x, p = (event & 0x7FF).astype(np.int32), (event >> 11 & 1).astype(np.uint8)
        vectors = np.flatnonzero(kind != ADDR_X)
        x[vectors], p[vectors] = self._bases(words, types, at[vectors])
        pixels = event & PIXELS[kind]
        pixels |= kind == ADDR_X
        pixels *= x >= 0  # no events before the first VECT_BASE_X
        bits = np.flatnonzero(np.unpackbits(pixels.view(np.uint8), bitorder="little").view(bool))
        of_event = bits >> 4
        x = x.take(of_event)
        x += bits & 15
        return of_event, x, p.take(of_event)

    def _bases(
        self, words: NDArray[np.uint16], types: NDArray[np.uint8], vectors: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Where each of the words `vectors` begins, -1 without a VECT_BASE_X before it; and its polarity."""
        is_base = types == VECT_BASE_X
        bases = words[np.flatnonzero(is_base)]
        of = np.cumsum(is_base, dtype=np.int32)[vectors]  # how many VECT_BASE_X came before each vector
        begins = np.concatenate((np.array([self.base], np.int32), bases & 0x7FF))
        polarity = np.concatenate((np.array([self.base_p], np.uint8), (bases >> 11 & 1).astype(np.uint8)))
        width = np.where(types[vectors] == VECT_12, np.int32(12), np.int32(8))
        moved = np.cumsum(width, dtype=np.int32)  # by all vectors up to and with each
        # Only the vectors after a base move it: subtract what the vectors before its first one moved.
        first = np.flatnonzero(np.diff(of, prepend=-1))
        before = np.repeat(moved[first] - width[first], np.diff(first, append=of.size))
        x = begins[of] + (moved - width - before)
        x[begins[of] < 0] = -1
        self.base, self.base_p = int(begins[-1]), int(polarity[-1])
        if of.size and of[-1] == begins.size - 1 and x[-1] >= 0:
            self.base = min(int(x[-1] + width[-1]), FARTHEST)
        return x, polarity[of]
