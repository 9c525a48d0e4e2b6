"""Bytes as they come become events: text, EVT2, EVT3, AER words of AEDAT 2.0, SPIF words and records of 16 bytes.

The readers of files decode them; here they get whatever has come, and what is incomplete waits for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from neuromoco.app.live.records import RECORD, read_records
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import ReadOptions
from neuromoco.events.aedat import aedat2
from neuromoco.events.prophesee import evt
from neuromoco.events.prophesee.evt3 import Evt3Decoder
from neuromoco.events.prophesee.header import Clock, parse_header, sensor_of
from neuromoco.events.stream import Columns, joined
from neuromoco.events.text.header import LONGEST_LINE, looks_like_text, read_header
from neuromoco.events.text.lines import Table, load_pandas
from neuromoco.events.tidy import tidy

FORMATS = ("csv", "evt2", "evt3", "aer", "spif", "records")
UNITS = {"csv": 1, "evt2": 4, "evt3": 2, "aer": 8, "records": 16}  # bytes at whose multiples a datagram may end
LARGEST_HEADER = 1 << 16  # bytes of what must come before it is known what a stream holds
FEWEST = 64  # bytes that show it
NOTHING = Columns(np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8))


class Decoder(Protocol):
    """Decodes a stream of bytes.

    Attributes:
        sensor: width and height, if they are known.
    """

    sensor: tuple[int, int] | None

    def decode(self, data: bytes) -> Columns:
        """The events that are complete with these bytes. Raises `EventFileError` for what is none."""

    def finish(self) -> tuple[Columns, str]:
        """The events that the end of the stream completes, and what is wrong with the bytes that are left, if any."""


def is_whole(format: str, datagram: bytes) -> bool:
    """Whether a datagram ends where its last word, pair of words or record does."""
    if format == "spif":
        untimed = len(datagram) >= 4 and datagram[3] & 0x80
        return len(datagram) % (4 if untimed else 8) == 0
    return len(datagram) % UNITS[format] == 0


def decoder_of(format: str | None, options: ReadOptions, sensor: tuple[int, int] | None) -> Decoder:
    """The decoder of a format, or one that looks at the first bytes.

    Args:
        format: one of `FORMATS`; None recognises text, and what has a header.
        options: what the user says.
        sensor: width and height, if the user or the model says them.

    Raises:
        ConfigError: no such format, or one that needs to know the sensor.
        MissingExtraError: text without pandas.
    """
    if format is None:
        return _Recognised(options, sensor)
    if format not in FORMATS:
        raise ConfigError(f"--format {format}: a stream of bytes holds one of {', '.join(FORMATS)}")
    if format == "csv":
        return _Text(options)
    if sensor is None:
        raise ConfigError(f"--format {format} needs --sensor WIDTHxHEIGHT, for example 640x480")
    if format in ("evt2", "evt3"):
        return _Words(evt.Evt2Decoder(False) if format == "evt2" else Evt3Decoder(), format, sensor)
    kinds: dict[str, Callable[[ReadOptions, tuple[int, int]], Decoder]]
    kinds = {"aer": _Aer, "spif": Spif, "records": _Records}
    return kinds[format](options, sensor)


class _OfRecords:
    """Takes bytes in whole records; the rest waits."""

    def __init__(self, size: int, sensor: tuple[int, int]) -> None:
        self._size, self._rest = size, b""
        self.sensor: tuple[int, int] | None = sensor

    def finish(self) -> tuple[Columns, str]:
        left = len(self._rest)
        return NOTHING, f"ends in the middle of an event: {left} of {self._size} bytes are left" if left else ""

    def _whole(self, data: bytes) -> bytes:
        data = self._rest + data if self._rest else data
        end = len(data) - len(data) % self._size
        self._rest = data[end:]
        return data[:end] if self._rest else data


class _Words(_OfRecords):
    """EVT2 or EVT3 without a header."""

    def __init__(self, decoder: evt.Evt2Decoder | Evt3Decoder, format: str, sensor: tuple[int, int]) -> None:
        self._decoder: Any = decoder
        self._type = evt.WORD[format.upper()]
        super().__init__(self._type.itemsize, sensor)

    def decode(self, data: bytes) -> Columns:
        words = np.frombuffer(self._whole(data), self._type)
        columns: Columns = self._decoder.decode(words) if words.size else NOTHING
        return columns


class _Records(_OfRecords):
    """Records of 16 bytes."""

    def __init__(self, options: ReadOptions, sensor: tuple[int, int]) -> None:
        super().__init__(RECORD.itemsize, sensor)

    def decode(self, data: bytes) -> Columns:
        events = read_records(self._whole(data), self.sensor or (0, 0))
        return Columns(events.t, events.x, events.y, events.p)


class _Aer(_OfRecords):
    """Addresses and times as in AEDAT 2.0, from a DVS128 or a DAVIS of the sensor's size."""

    def __init__(self, options: ReadOptions, sensor: tuple[int, int], header: bytes = b"") -> None:
        self._options, self._header, self._given = options, header, sensor
        self._decoder: aedat2.Decoder | None = None
        super().__init__(aedat2.RECORD.itemsize, sensor)

    def decode(self, data: bytes) -> Columns:
        raw: Any = np.frombuffer(self._whole(data), aedat2.RECORD)
        if not len(raw):
            return NOTHING
        if self._decoder is None:
            known = self._options if self._options.sensor else ReadOptions(sensor=None if self._header else self._given)
            layout, self.sensor = aedat2.camera_of(self._header, raw[:, 0], known)
            self._decoder = aedat2.Decoder(layout, *self.sensor)
        return self._decoder.decode(raw)


class Spif(_OfRecords):
    """Words of 32 bits as AEStream sends them (`src/cpp/output/dvs_to_udp.cpp`), after SPIF's of SpiNNaker.

    Bit 31 is 1 if no time follows; bits 30 to 16 are x, bit 15 is the polarity, bits 14 to 0 are y; little-endian. A
    time is a word of microseconds, continued over its overflow. Events without one have the time at which they came.
    """

    def __init__(self, options: ReadOptions, sensor: tuple[int, int]) -> None:
        super().__init__(4, sensor)
        self._clock = Clock(1 << 32, 1 << 20)
        self._timed: bool | None = None

    def decode(self, data: bytes) -> Columns:
        if self._timed is None and len(first := (self._rest + data)[:4]) == 4:
            self._timed = not first[3] & 0x80
            self._size = 8 if self._timed else 4
        words = np.frombuffer(self._whole(data), "<u4")
        if not words.size:
            return NOTHING
        heads = words[::2] if self._timed else words
        if np.any((heads >> 31 == 0) != self._timed):
            raise EventFileError("SPIF words with and without times in one stream: bytes were lost, or it is another")
        if self._timed:
            t = self._clock.unwrap(words[1::2].astype(np.int64))
        else:
            t = np.full(heads.size, time.monotonic_ns() // 1000)
        x, y = (heads >> 16 & 0x7FFF).astype(np.uint16), (heads & 0x7FFF).astype(np.uint16)
        return Columns(t, x, y, (heads >> 15 & 1).astype(np.uint8))


class _Text:
    """Lines of text, with or without a line of names."""

    def __init__(self, options: ReadOptions) -> None:
        self._pandas = load_pandas()
        self._options = options
        self._rest = b""
        self._table: Table | None = None
        self._read = Columns(*(np.empty(0) for _ in "txyp"))
        self.sensor: tuple[int, int] | None = None

    def decode(self, data: bytes) -> Columns:
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest += data
            if len(self._rest) > LONGEST_LINE:
                raise EventFileError(f"a line is longer than {LONGEST_LINE} bytes: no text of events")
            return NOTHING
        block, self._rest = self._rest + data[:end], data[end:]
        if self._table is None:
            block = self._begin(block)
        if not block.strip():
            return NOTHING
        assert self._table is not None
        columns = self._table.columns(block)
        if columns is None:
            shown = block[: block.find(b"\n")][:60].decode(errors="replace")
            raise EventFileError(f"holds lines that are no numbers, such as one after {shown!r}")
        if not len(columns.t):
            return NOTHING
        self._read = columns
        return next(self._tidied)

    def finish(self) -> tuple[Columns, str]:
        try:
            return self.decode(b"\n") if self._rest.strip() else NOTHING, ""
        except EventFileError as error:
            return NOTHING, str(error)

    def _begin(self, block: bytes) -> bytes:
        header = read_header(block.decode(errors="surrogateescape"), self._options.ways)
        self._table = Table(self._pandas, header)
        width, height = header.sensor
        self.sensor = (width, height) if width and height else None
        self._tidied = tidy(self._pieces(), self._options.unit(header.unit), order=header.order)
        return block[header.start :]

    def _pieces(self) -> Iterator[Columns]:
        while True:
            yield self._read


class _Recognised:
    """Looks at the first bytes: text, a RAW file's header, or an AEDAT 2.0 file's."""

    def __init__(self, options: ReadOptions, sensor: tuple[int, int] | None) -> None:
        self._options, self.sensor = options, sensor
        self._head = b""
        self._decoder: Decoder | None = None

    def decode(self, data: bytes) -> Columns:
        if self._decoder is None:
            self._head += data
            if (begun := self._begin()) is None:
                if len(self._head) > LARGEST_HEADER:
                    raise _not_recognised()
                return NOTHING
            self._decoder, data = begun
        columns = self._decoder.decode(data)
        self.sensor = self._decoder.sensor or self.sensor
        return columns

    def finish(self) -> tuple[Columns, str]:
        columns = NOTHING
        if self._decoder is None and self._head:
            try:
                if (begun := self._begin(at_end=True)) is None:
                    raise _not_recognised()
                self._decoder, data = begun
                columns = self._decoder.decode(data)
            except EventFileError as error:
                return NOTHING, str(error)
            self.sensor = self._decoder.sensor or self.sensor
        if self._decoder is None:
            return NOTHING, ""
        last, wrong = self._decoder.finish()
        return joined([columns, last]), wrong

    def _begin(self, at_end: bool = False) -> tuple[Decoder, bytes] | None:
        """The decoder and its first bytes; None while there are too few to know, which at the end is never known."""
        head, fewest = self._head, 0 if at_end else FEWEST
        if head.startswith(aedat2.MAGIC):
            matched = aedat2.HEADER_LINES.match(head)
            begin = matched.end() if matched else 0
            ended = begin > len(aedat2.MAGIC) and len(head) >= begin + fewest
            decoder = _Aer(self._options, self.sensor or (128, 128), head[:begin])
            return (decoder, head[begin:]) if ended else None
        if head.startswith(evt.MARK):
            header = parse_header(head, evt.MARK)
            if not header.ended and len(head) < header.begin + fewest:
                return None
            sensor = self._options.sensor or sensor_of(header.fields) or self.sensor
            format = evt.encoding_of(header.fields).lower()
            return decoder_of(format, self._options, sensor), head[header.begin :]
        if at_end or (len(head) >= FEWEST and b"\n" in head):
            if not looks_like_text(head, len(head)):
                raise _not_recognised()
            return _Text(self._options), head
        if len(head) > LONGEST_LINE:
            raise _not_recognised()
        return None


def _not_recognised() -> EventFileError:
    return EventFileError(f"is no stream that is recognised: give --format {', '.join(FORMATS)}")
