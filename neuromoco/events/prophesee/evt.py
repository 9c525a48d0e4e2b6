"""Prophesee RAW: the words of an event camera as they were sent, in the encodings EVT2, EVT2.1 and EVT3.

Layouts: https://docs.prophesee.ai/stable/data/encoding_formats/evt2.html, .../evt21.html, .../evt3.html. All words are
little-endian. The 64-bit words of EVT2.1 are stored low half first (`endianness=little`, the default) or high half
first (`endianness=legacy`, sensors Gen 4.1 and IMX636). Bits, from the highest:

    EVT2    4 type, 6 time, 11 x, 11 y; TIME_HIGH: 4 type, 28 time
    EVT2.1  the same, then 32 bits, one for each of the pixels x to x + 31 that has an event
    EVT3    see `evt3.py`

Triggers, monitoring and continued words are skipped. Events before the first TIME_HIGH have no time and are omitted:
a recording may begin in the middle of a stream. Words of reserved types are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.options import ReadOptions
from neuromoco.events.prophesee.evt3 import CAMERAS, Evt3Decoder
from neuromoco.events.prophesee.header import Clock, bits_of, check_types, parse_header, read_header, sensor_of, shifted
from neuromoco.events.stream import Columns, CutError, EventStream, check_whole, one_line, records

FORMAT = "Prophesee RAW"
MARK = b"% "
NAMES = {
    **dict.fromkeys(("EVT2", "EVT2.0", "2", "2.0"), "EVT2"),
    **dict.fromkeys(("EVT21", "EVT2.1", "2.1"), "EVT2.1"),
    **dict.fromkeys(("EVT3", "EVT3.0", "3", "3.0"), "EVT3"),
}
WORD = {"EVT2": np.dtype("<u4"), "EVT2.1": np.dtype(("<u4", 2)), "EVT3": np.dtype("<u2")}
# Words decoded at once. Larger pieces exceed the processor's cache, smaller ones add calls.
WORDS = {"EVT2": 1 << 17, "EVT2.1": 1 << 15, "EVT3": 1 << 17}
CD_OFF, CD_ON, TIME_HIGH, TRIGGER, OTHERS, CONTINUED = 0x0, 0x1, 0x8, 0xA, 0xE, 0xF
KNOWN = bits_of(CD_OFF, CD_ON, TIME_HIGH, TRIGGER, OTHERS, CONTINUED)
HIGH_BITS, LOW_BITS = 28, 6


def looks_like_evt(head: bytes, size: int) -> bool:
    """Whether the header names an encoding, as those of RAW files do."""
    return not {"evt", "format"}.isdisjoint(parse_header(head, MARK).fields)


def open_evt(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file."""
    header = read_header(path, MARK)
    encoding = encoding_of(header.fields)
    sensor = options.sensor or sensor_of(header.fields)
    if sensor is None:
        raise EventFileError("the header does not name the sensor: give --sensor WIDTHxHEIGHT, for example 640x480")
    check_whole(path, header.begin, WORD[encoding].itemsize, f"{encoding} words", options.salvage)
    decoder: Evt2Decoder | Evt3Decoder
    if encoding == "EVT3":
        if options.select is not None and options.select not in CAMERAS:
            raise EventFileError(f"--select {one_line(options.select)}: EVT3 has {' and '.join(CAMERAS)}")
        decoder = Evt3Decoder(CAMERAS.get(options.select or ""))
    else:
        if options.select is not None:
            raise EventFileError(f"--select {one_line(options.select)}: {encoding} has the events of one camera")
        decoder = Evt2Decoder(encoding == "EVT2.1", header.fields.get("endianness") == "legacy")
    words = records(path, WORD[encoding], header.begin, WORDS[encoding])
    pieces = _decoded(words, decoder.decode, header.begin)
    parts = (path.stat().st_size - header.begin) / (WORD[encoding].itemsize * WORDS[encoding])
    return EventStream(f"{FORMAT} {encoding}", shifted(pieces, header.fields), *sensor, parts=parts)


def _decoded(
    blocks: Iterator[NDArray[Any]], decode: Callable[[NDArray[Any]], Columns], begin: int
) -> Iterator[Columns]:
    """The events of words that begin at a byte of the file, up to a word of a reserved type."""
    for words in blocks:
        try:
            piece = decode(words)
        except CutError as damage:
            before = words[: damage.whole]
            yield decode(before)
            raise CutError(str(damage), begin + before.nbytes) from None
        yield piece
        begin += words.nbytes


def encoding_of(fields: dict[str, str]) -> str:
    """The encoding that a header names."""
    name = fields.get("format") or fields.get("evt", "")
    encoding = NAMES.get(name.upper())
    if encoding is None:
        raise EventFileError(f"holds {name[:40]!r}; of Prophesee's encodings EVT2, EVT2.1 and EVT3 are read")
    order = fields.get("endianness", "little")
    allowed = ("little", "legacy") if encoding == "EVT2.1" else ("little",)
    if order not in allowed:
        raise EventFileError(f"{encoding} with endianness {order[:40]!r}; {' and '.join(allowed)} is read")
    return encoding


class Evt2Decoder:
    """Decodes EVT2 or, with `vectors`, EVT2.1 piece by piece; `high_first`: the high half of a word is first."""

    def __init__(self, vectors: bool, high_first: bool = False) -> None:
        self.vectors = vectors
        self.half = 0 if high_first else 1
        self.clock = Clock(1 << HIGH_BITS, 1 << 10)  # steps back by less than 65 ms
        self.high: int | None = None

    def decode(self, words: NDArray[np.uint32]) -> Columns:
        """Decodes words: uint32 [N], or uint32 [N, 2] of EVT2.1."""
        heads = np.ascontiguousarray(words[:, self.half]) if self.vectors else words
        types = (heads >> 28).astype(np.uint8)
        is_event = types <= CD_ON
        others = np.flatnonzero(~is_event)
        other_types = types.take(others)
        check_types(other_types, KNOWN, "EVT2.1" if self.vectors else "EVT2", others)
        at = np.flatnonzero(other_types == TIME_HIGH)
        places = others.take(at)
        before = places - at  # events before each TIME_HIGH
        highs = self.clock.unwrap(heads.take(places) & ((1 << HIGH_BITS) - 1))
        if self.high is None:  # events before the first one have no time
            is_event[: places[0] if highs.size else None] = False
            before -= before[:1]
        # Each TIME_HIGH, and the one from the piece before, holds for the events up to the next.
        base = np.concatenate(([self.high or 0], highs)) << LOW_BITS
        if highs.size:
            self.high = int(highs[-1])
        heads = heads[is_event]
        t = np.repeat(base, np.diff(before, prepend=0, append=heads.size))
        t += (heads >> 22).astype(np.uint8) & 63
        x, y, p = (heads >> 11).astype(np.uint16), heads.astype(np.uint16), (heads >> 28).astype(np.uint8)
        x &= 2047
        y &= 2047
        if not self.vectors:
            return Columns(t, x, y, p)
        masks = np.ascontiguousarray(words[is_event, 1 - self.half])
        bits = np.flatnonzero(np.unpackbits(masks.view(np.uint8), bitorder="little").view(bool))
        of_bit = bits >> 5
        x = x.take(of_bit) + (bits & 31).astype(np.uint16)
        return Columns(t.take(of_bit), x, y.take(of_bit), p.take(of_bit))
