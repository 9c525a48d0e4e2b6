"""Prophesee RAW files for tests, written word by word after the published layouts."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest

from neuromoco import EventFileError, Recording
from neuromoco.events.options import ReadOptions
from neuromoco.events.prophesee import evt
from neuromoco.events.stream import gather

Event = tuple[int, int, int, int]  # t, x, y, p
HEADERS = {
    "EVT2": b"% evt 2.0\n% format EVT2;height=480;width=640\n% geometry 640x480\n% end\n",
    "EVT2.1": b"% format EVT21;endianness=little;height=480;width=640\n% end\n",
    "EVT3": b"% date 2023-03-29 16:37:46\n% evt 3.0\n% format EVT3;height=480;width=640\n% end\n",
}


def read(path: Path, sensor: tuple[int, int] | None = None) -> Recording:
    assert evt.looks_like_evt(path.read_bytes()[:4000], path.stat().st_size)
    return gather(evt.open_evt(path, ReadOptions(sensor=sensor)))


def events_of(recording: Recording) -> list[Event]:
    return list(zip(*(getattr(recording, name).tolist() for name in "txyp"), strict=True))


def raw(path: Path, header: bytes, words: Iterable[int], code: str) -> Path:
    path.write_bytes(header + b"".join(struct.pack(code, word) for word in words))
    return path


def refusal(path: Path, sensor: tuple[int, int] | None = None) -> str:
    with pytest.raises(EventFileError) as caught:
        gather(evt.open_evt(path, ReadOptions(sensor=sensor)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def bits(*fields: tuple[int, int]) -> int:
    """A word from (value, number of bits), the highest first."""
    return int("".join(f"{value:0{width}b}" for value, width in fields), 2)


def evt2_high(high: int) -> int:
    return bits((8, 4), (high, 28))


def evt2_event(p: int, low: int, x: int, y: int) -> int:
    return bits((p, 4), (low, 6), (x, 11), (y, 11))


def evt21_event(p: int, low: int, x: int, y: int, mask: int) -> int:
    return bits((p, 4), (low, 6), (x, 11), (y, 11), (mask, 32))


def evt3_word(kind: int, value: int) -> int:
    return bits((kind, 4), (value, 12))
