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

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.prophesee.header import Clock, bits_of, check_types
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.stream import Columns

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
VECTORS, BASES = bits_of(VECT_12, VECT_8), bits_of(VECT_BASE_X)
PADDING = 0x9999
PADDED = bits_of(PADDING >> 12)
KNOWN = bits_of(ADDR_Y, ADDR_X, VECT_BASE_X, TIME_LOW, 0x7, TIME_HIGH, 0xA, 0xD, 0xE, 0xF) | VECTORS | PADDED
# Pixels of an event word. ADDR_X is a vector of one pixel: its mask is set to 1.
PIXELS, WIDTH = np.zeros(16, np.uint16), np.zeros(16, np.int32)
PIXELS[VECT_12], PIXELS[VECT_8], WIDTH[VECT_12], WIDTH[VECT_8] = 0xFFF, 0xFF, 12, 8
OUTSIDE = LARGEST_SIDE - 15  # a column where a vector begins; no sensor is as wide

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
        self._counted = np.arange(0)

    def decode(self, words: NDArray[np.uint16]) -> Columns:
        """Decodes uint16 words [N], N below 2^26."""
        types = (words >> 12).astype(np.uint8)
        is_row, is_time, is_event = types == ADDR_Y, types == TIME_LOW, types == ADDR_X
        at_row, at_high, at = is_row.nonzero()[0], (types == TIME_HIGH).nonzero()[0], is_event.nonzero()[0]
        usual = at_row.size + at_high.size + at.size + np.count_nonzero(is_time) == words.size
        present = 0 if usual else self._check(words, types)
        if present & VECTORS:
            is_event |= (types | 1) == VECT_8
            at = is_event.nonzero()[0]
        known = self.high >= 0 and self.y >= 0
        rows, times = self._rows(words.take(at_row)), self._times(words, at_high, is_time)
        event = words.take(at)
        row_of = is_row.cumsum(dtype=np.int32).take(at).astype(np.intp)
        if at_row.size + times.size - 1 + at.size == words.size:  # what is neither an event nor a row is a time
            time_of = at - row_of
            time_of -= self._numbers(at.size)
        else:
            time_of = is_time.cumsum(dtype=np.int32).take(at)
        t, y = times.take(time_of), rows.take(row_of)
        if present & VECTORS:
            of_event, x, p = self._vectors(words, types, event, at)
            t, y = t.take(of_event), y.take(of_event)
        else:
            x, p = event & 0x7FF, (event >> 11).astype(np.uint8)
            p &= 1
            if present & BASES:
                self._begins(words, types, types[:0], at[:0])
        if not known:
            good = np.flatnonzero((t >= 0) & (y >= 0))
            t, x, y, p = t[good], x[good], y[good], p[good]
        if self.camera is not None:
            good = np.flatnonzero(y >> 11 == self.camera)
            t, x, y, p = t[good], x[good], y[good] & 0x7FF, p[good]
        return Columns(t, x, y.view(np.uint16), p)

    def _check(self, words: NDArray[np.uint16], types: NDArray[np.uint8]) -> int:
        """The types of words as the bits of a number; a type that is not known is refused."""
        present = check_types(types, KNOWN, "EVT3")
        if present & PADDED:
            check_types(np.where(words == PADDING, np.uint8(TIME_LOW), types), KNOWN & ~PADDED, "EVT3")
        return present

    def _numbers(self, count: int) -> NDArray[np.intp]:
        """0, 1, 2, ..."""
        if count > self._counted.size:
            self._counted = np.arange(count)
        return self._counted[:count]

    def _rows(self, word: NDArray[np.uint16]) -> NDArray[np.int16]:
        """Rows in their order, beginning with that of the piece before."""
        if word.size and self.camera is None:
            self.cameras |= {int(ufunc.reduce(word)) >> 11 & 1 for ufunc in (np.bitwise_and, np.bitwise_or)}
            if len(self.cameras) > 1:
                raise EventFileError(
                    f"the EVT3 file holds events of two cameras: give --select with one of {', '.join(CAMERAS)}"
                )
        rows = np.concatenate((np.array([self.y], np.int16), (word & self.row_bits).view(np.int16)))
        self.y = int(rows[-1])
        return rows

    def _times(
        self, words: NDArray[np.uint16], at_high: NDArray[np.intp], is_time: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Times in their order, beginning with that of the piece before; before the first TIME_HIGH, they are below 0.

        `is_time` shows each TIME_LOW, and then also each TIME_HIGH that gives a new time.
        """
        highs = np.concatenate(([self.high], self.clock.unwrap(words.take(at_high) & 0xFFF)))
        news = (highs[1:] != highs[:-1]).nonzero()[0]  # the same value changes nothing
        is_time[at_high.take(news)] = True
        word = words.take(is_time.nonzero()[0])
        at_new = (word >= TIME_HIGH << 12).nonzero()[0]
        word &= 0xFFF
        word[at_new] = 0
        times = np.repeat(highs.take(np.append(0, news + 1)) << 12, np.diff(at_new, prepend=-1, append=word.size))
        times += np.append(np.uint16(self.low), word)
        self.high, self.low = int(times[-1]) >> 12, int(times[-1]) & 0xFFF
        return times

    def _vectors(
        self, words: NDArray[np.uint16], types: NDArray[np.uint8], event: NDArray[np.uint16], at: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint16], NDArray[np.uint8]]:
        """For every event of the words `event` at `at`: the index of its word in `event`, x and polarity."""
        kind = types.take(at)
        single = (kind == ADDR_X).nonzero()[0]
        begin, p = self._begins(words, types, kind, at)
        pixels = event & PIXELS.take(kind)
        pixels[begin < 0] = 0  # no events before the first VECT_BASE_X
        begin[single], p[single], pixels[single] = event[single] & 0x7FF, event[single] >> 11 & 1, 1
        np.minimum(begin, OUTSIDE, out=begin)  # a vector may go on beyond every sensor
        bits = np.unpackbits(pixels.view(np.uint8), bitorder="little").view(bool).nonzero()[0]
        of_event = bits >> 4
        begin -= 16 * np.arange(begin.size, dtype=np.int32)
        x = bits.astype(np.uint16)  # the differences are small, so it does not matter that both are cut to 16 bits
        x += begin.astype(np.uint16).take(of_event)
        return of_event, x, p.take(of_event)

    def _begins(
        self, words: NDArray[np.uint16], types: NDArray[np.uint8], kind: NDArray[np.uint8], at: NDArray[np.intp]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Where each vector begins, or one would; -1 without a VECT_BASE_X before it; and its polarity."""
        is_base = types == VECT_BASE_X
        bases = words.take(is_base.nonzero()[0])
        begins = np.append(np.int32(self.base), bases & 0x7FF)
        polarity = np.append(np.uint8(self.base_p), (bases >> 11 & 1).astype(np.uint8))
        width = WIDTH.take(kind)
        moved = width.cumsum(dtype=np.int32) - width  # by all vectors before each
        of = is_base.cumsum(dtype=np.int32).take(at)  # how many VECT_BASE_X came before each vector
        # Only the vectors after a base move it: subtract what the vectors before its first one moved.
        first = np.diff(of, prepend=-1).nonzero()[0]
        used = of.take(first)
        begins[used] -= moved.take(first)
        begin = begins.take(of) + moved
        if self.base < 0:
            begin[: of.searchsorted(1)] = -1
        self.base, self.base_p = int(bases[-1] & 0x7FF) if bases.size else self.base, int(polarity[-1])
        if of.size and of[-1] == bases.size and begin[-1] >= 0:
            self.base = min(int(begin[-1] + width[-1]), OUTSIDE)
        return begin, polarity.take(of)
