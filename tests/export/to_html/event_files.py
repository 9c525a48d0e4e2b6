"""Event files of every kind that the page reads or refuses, written for its tests."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from neuromoco.models import example_paths
from tests.helpers.evt_files import HEADERS, evt2_event, evt2_high, evt3_word, evt21_event

JAER = b"#!AER-DAT2.0\r\n"
DVS128 = JAER + b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
DAVIS346 = JAER + b"# AEChip: eu.seebetter.ini.chips.davis.Davis346blue\r\n"
DAT = b"% Data file containing CD events.\n% Version 2\n% Width 640\n% Height 480\n"
MARK = bytes([0, 240, 0, 0, 0])


class EventFile(NamedTuple):
    """A file, and what a network knows of such files."""

    name: str
    content: bytes
    reading: dict[str, Any]


def event_files(seed: int = 0) -> Iterator[EventFile]:
    """All of them; the seed decides the events."""
    rng = np.random.default_rng(seed)
    for family in (_atis, _prophesee, _jaer, _text, _arrays, _odd):
        for name, content, *reading in family(rng):
            yield EventFile(f"{family.__name__[1:]}-{name}", content, reading[0] if reading else {})


def columns(rng: np.random.Generator, count: int = 500, width: int = 34, height: int = 34) -> tuple[np.ndarray, ...]:
    """Times, columns, rows and polarities of random events of 300 ms."""
    t = np.sort(rng.integers(1000, 301_000, count))
    return t, rng.integers(0, width, count), rng.integers(0, height, count), rng.integers(0, 2, count)


def _atis(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    three = example_paths()[3].read_bytes()
    half = len(three) // 10 * 5
    yield "example", three
    yield "marks", three[:half] + 40 * MARK + three[half:]
    yield "cut", three[:-2]
    yield "back", three[half:] + three[:half]
    yield "wide", three + bytes([200, 100, 0x7F, 0xFF, 0xFF])
    yield "tall", three + 300 * bytes([10, 250, 0xFF, 0xFF, 0xFF])


def _prophesee(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    t, x, y, p = columns(rng, 500, 640, 480)
    address = x.astype("<u4") | y.astype("<u4") << 14 | p.astype("<u4") << 28
    events = np.stack([t, address], 1).astype("<u4").tobytes()
    yield "2.dat", DAT + bytes([0x0C, 8]) + events
    yield "t0.dat", DAT + b"% t0 5000000\n% end\n" + bytes([0, 8]) + events
    yield "trigger.dat", DAT + bytes([0x0E, 8]) + events
    yield "sensor.dat", DAT.replace(b"640", b"640000") + bytes([0x0C, 8]) + events
    old = (x % 304).astype("<u4") | (y % 240).astype("<u4") << 9 | p.astype("<u4") << 17
    bare = np.stack([t, old], 1).astype("<u4").tobytes()
    yield "1.dat", b"% Data file containing TD events.\n% Version 1\n" + bytes([0, 8]) + bare
    yield "bare.dat", bare, {"format": "dat"}
    turned = np.stack([((t - 150_000) % (1 << 32)).astype("<u4"), address], 1).tobytes()
    yield "turn.dat", DAT + bytes([0x0C, 8]) + turned

    words = [evt2_event(1, 3, 5, 5), evt2_high((1 << 28) - 1)]
    words += [evt2_event(int(p[i]), i % 64, int(x[i]), int(y[i])) for i in range(50)] + [
        0xA0000000,
        evt2_high(2),
        0xE0000000,
    ]
    words += [evt2_event(int(p[i]), i % 64, int(x[i]), int(y[i])) for i in range(50)]
    evt2 = np.array(words, "<u4").tobytes()
    yield "evt2.raw", HEADERS["EVT2"] + evt2
    yield "no-sensor.raw", b"% evt 2.0\n" + evt2
    yield "known-sensor.raw", b"% evt 2.0\n" + evt2, {"sensor": [640, 480]}
    yield "reserved.raw", HEADERS["EVT2"] + evt2 + struct.pack("<I", 0x30000000)
    yield "big.raw", b"% evt 2.0\n% endianness big\n% geometry 640x480\n% end\n" + evt2
    vectors = [evt2_high(7) << 32] + [
        evt21_event(int(p[i]), i % 64, 32 * (i % 19), int(y[i]), int(t[i])) for i in range(60)
    ]
    yield "evt21.raw", HEADERS["EVT2.1"] + np.array(vectors, "<u8").tobytes()
    legacy = [(word & 0xFFFFFFFF) << 32 | word >> 32 for word in vectors]
    yield "legacy.raw", HEADERS["EVT2.1"].replace(b"little", b"legacy") + np.array(legacy, "<u8").tobytes()

    evt3 = HEADERS["EVT3"] + _evt3_words(rng).tobytes()
    yield "evt3.raw", evt3
    yield "flipped.raw", evt3, {"flip": "xy"}
    yield "cut.raw", evt3[:-1]
    yield "two-cameras.raw", evt3 + struct.pack("<H", evt3_word(0, 1 << 11 | 5))
    yield "unknown.raw", b"% format EVT4;height=480;width=640\n% end\n" + evt2
    yield "no-end.raw", b"% format EVT3;height=480;width=640"


def _evt3_words(rng: np.random.Generator) -> np.ndarray:
    """Random words with times that go on, over their overflow, and step back a little."""
    words: list[int] = []
    for i in range(400):
        high = (4000 + i // 2 - (i % 7 == 0)) % 4096
        words += (
            [evt3_word(8, high), evt3_word(6, int(rng.integers(4096)))] if i else [evt3_word(2, 5), evt3_word(4, 9)]
        )
        words += [
            evt3_word(0, int(rng.integers(480))),
            evt3_word(2, int(rng.integers(2)) << 11 | int(rng.integers(640))),
        ]
        words += [evt3_word(3, int(rng.integers(2)) << 11 | int(rng.integers(600)))] if i % 3 else []
        words += [evt3_word(4, int(rng.integers(4096))), evt3_word(5, int(rng.integers(256))), 0x9999] if i % 2 else []
        words += [evt3_word(int(rng.choice([7, 10, 13, 14, 15])), int(rng.integers(4096)))]
    return np.array(words, "<u2")


def _jaer(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    t, x, y, p = columns(rng, 300, 128, 128)

    def records(address: np.ndarray, time: np.ndarray) -> bytes:
        return np.stack([address, time], 1).astype(">u4").tobytes()

    of_dvs = x << 1 | y << 8 | p
    yield "dvs128.aedat", DVS128 + records(of_dvs, t)
    yield "external.aedat", DVS128 + records(of_dvs | (np.arange(300) % 9 == 0) << 15, t)
    yield "unused.aedat", DVS128 + records(of_dvs | (np.arange(300) == 7) << 20, t)
    yield "unnamed.aedat", JAER + records(of_dvs, t)
    yield "overflow.aedat", DVS128 + records(of_dvs, (t + 0x7FFFFF00 - 150_000) % (1 << 32))
    t, x, y, p = columns(rng, 300, 346, 260)
    of_davis = x << 12 | y << 22 | p << 11
    yield "davis346.aedat", DAVIS346 + records(of_davis, t)
    yield "frames.aedat", DAVIS346 + records(of_davis | (np.arange(300) % 2 == 0) << 31, t)
    yield "nothing.aedat", DAVIS346 + records(of_davis | 1 << 31, t)
    yield "of-davis.aedat", JAER + records(of_davis, t)
    yield "known.aedat", JAER + records(of_davis, t), {"sensor": [346, 260]}
    yield "v2e.aedat", JAER + b"# created by AEDat2Output in v2e\r\n" + records(x << 1 | y << 11 | p, t)
    yield "chip.aedat", JAER + b"# AEChip: a.b.Cochlea\r\n" + records(of_davis, t)
    yield "cut.aedat", DVS128 + records(of_dvs, t[:300])[:-3]


def _text(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    t, x, y, p = columns(rng, 1500)

    def lines(form: str, t: Any = t, p: Any = p) -> str:
        return "".join(form.format(t=a, x=b, y=c, p=d) + "\n" for a, b, c, d in zip(t, x, y, p, strict=True))

    plain = lines("{t},{x},{y},{p}")
    yield "plain.csv", b"t,x,y,p\n" + plain.encode()
    yield "order.csv", ("p;y;x;timestamp\n" + lines("{p};{y};{x};{t}")).encode()
    yield "quoted.csv", ('"t","x","y","p"\r\n' + lines('"{t}", {x},{y},"{p}"\r')).encode()
    yield "blanks.txt", ("# t x  y\tp\n" + lines("{t}   {x}\t{y} {p}")).encode()
    yield "seconds.txt", lines("{t:.6f} {x} {y} {p}", t / 1e6).encode()
    yield (
        "commas.csv",
        ("t_ms;x;y;p\n" + lines("{t};{x};{y};{p}", [f"{a / 1e3:.3f}".replace(".", ",") for a in t])).encode(),
    )
    yield "ns.csv", ("t [ns],x,y,p\n" + lines("{t},{x},{y},{p}", t * 1000 + 1_700_000_000_000_000_499)).encode()
    yield "words.csv", ("t,x,y,on\n" + lines("{t},{x},{y},{p}", p=[("False", "ON")[int(a)] for a in p])).encode()
    yield "signs.csv", ("t,x,y,p\n" + lines("{t},{x},{y},{p}", p=2 * p - 1)).encode()
    yield "sizes.csv", ("t,x@346,y@260,p\n" + plain).encode()
    yield "geometry.csv", ("%geometry:640,480\nt,x,y,p\n" + plain).encode()
    yield "sides.txt", ("240 180\n" + lines("{t:.6f} {x} {y} {p}", t / 1e6)).encode()
    yield "utf16.csv", ("t,x,y,p\n" + plain).encode("utf-16")
    yield "no-names.csv", plain.encode()
    yield "known.csv", lines("{p},{y},{x},{t}").encode(), {"columns": "pyxt", "sensor": [40, 40], "time_unit": "ms"}
    yield "names.csv", ("a,b,c,d\n" + plain).encode(), {"columns": "t=a,x=b,y=c,p=d"}
    yield "unnamed.csv", ("a,b,c,d\n" + plain).encode()
    yield "whole.csv", ("t,x,y,p\n" + lines("{t},{x},{y},{p}", [f"{a}.0" for a in t])).encode()
    for number, line in enumerate(
        ("1,2,3", "1,2,3,4,5", "a,2,3,1", "1,2.5,3,1", "1,2,3,7", "1,nan,3,1", "9" * 25 + ",2,3,1", ",2,3,1")
    ):
        yield f"bad-{number}.csv", ("t,x,y,p\n" + plain[:2000].rpartition("\n")[0] + f"\n{line}\n" + plain).encode()
    yield "both-signs.csv", b"t,x,y,p\n1,2,3,0\n2,3,4,-1\n3,3,3,1\n"
    yield "slow.csv", ("t,x,y,p\n" + lines("{t},{x},{y},{p}", t * 10_000)).encode()
    yield "binary.csv", b"t,x,y,p\n1,2,3,0\n\x00\x01"
    yield "empty.csv", b"t,x,y,p\n"


def _arrays(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    t, x, y, p = columns(rng, 800)
    named = {"t": t, "x": x.astype(np.uint16), "y": y.astype(">i2"), "p": p.astype(bool)}

    def packed(compressed: bool = True, **arrays: Any) -> bytes:
        file = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
        return file.getvalue()

    def saved(array: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    whole = packed(**named, width=np.array(346), height=np.array([260]))
    yield "own.npz", whole
    yield "stored.npz", packed(compressed=False, **named)
    yield "float.npz", packed(**{**named, "t": t / 1e6, "x": x.astype(np.float32), "p": (2.0 * p - 1)})
    yield "half.npz", packed(**{**named, "x": x.astype(np.float16)})
    yield (
        "ns.npz",
        packed(**{**named, "t": 0, "timestamps_ns": t * 1000 + 1_700_000_000_000_000_501} | {"t": np.zeros((2, 2))}),
    )
    yield "whole-float.npz", packed(**{**named, "t": t.astype(float)})
    yield "places.npz", packed(**{f"{place}/{name}": array for place in "ab" for name, array in named.items()})
    yield "lengths.npz", packed(**{**named, "x": x[:-1]})
    yield "missing.npz", packed(t=t, x=x, y=y)
    yield "width.npz", packed(**named, width=np.array(34.5))
    yield "polarity.npz", packed(**{**named, "p": p * 2})
    yield "outside.npz", packed(**{**named, "x": x * 100}, width=np.array(34), height=np.array(34))
    yield "objects.npz", packed(**{**named, "t": t.astype(object)})
    yield "cut.npz", whole[:-40]
    yield "damaged.npz", whole[:200] + bytes([whole[200] ^ 0xFF]) + whole[201:]
    kind = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?"), ("rest", "<f4", (2,))])
    records = np.zeros(800, kind)
    records["t"], records["x"], records["y"], records["p"] = t, x, y, p
    yield "records.npy", saved(records)
    yield "records.npz", packed(events=records.reshape(1, -1))
    yield "cut.npy", saved(records)[:-7]
    yield "long.npy", saved(records) + b"x"
    table = np.stack([x, y, t, p], 1)
    yield "table.npy", saved(table)
    yield "known.npy", saved(table), {"columns": "xytp"}
    yield "fortran.npy", saved(np.asfortranarray(table)), {"columns": "xytp"}
    yield "transposed.npy", saved(table.T.copy()), {"columns": "xytp"}
    yield "none.npy", saved(records[:0])


def _odd(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    t, x, y, p = columns(rng, 1000)

    def csv(t: Any, x: Any = x) -> bytes:
        return ("t,x,y,p\n" + "".join(f"{a},{b},{c},{d}\n" for a, b, c, d in zip(t, x, y, p, strict=True))).encode()

    def dat(t: Any) -> bytes:
        address = x.astype("<u4") | y.astype("<u4") << 14 | p.astype("<u4") << 28
        return DAT + bytes([0x0C, 8]) + np.stack([np.asarray(t).astype("<u4"), address], 1).tobytes()

    yield "late", dat(t + rng.integers(-4000, 4000, 1000) + 5000)
    yield "set-back", dat(np.where(np.arange(1000) < 600, t + 1_000_000, t))
    yield "back-and-forth", dat(np.where(np.arange(1000) // 100 % 2, t + 1_000_000, t + 50_000))
    yield "table-late", csv(t + rng.integers(-400_000, 400_000, 1000) + 500_000)
    yield "disordered", csv(rng.permutation(t) * 100)
    yield "few-strays", csv(t, np.where(np.arange(1000) == 5, 4000, x))
    yield "far", csv(t, np.where(np.arange(1000) == 5, 5000, x))
    yield "beyond", csv(t, np.where(np.arange(1000) < 3, -1, x))
    yield "many-beyond", csv(t, np.where(np.arange(1000) < 30, 70_000, x))
    yield "ancient", csv(t.astype(object) + 10**17)
    for name, magic in {
        "a.png": b"\x89PNG\r\n\x1a\n",
        "a.gz": b"\x1f\x8b\x08",
        "a.zip": b"PK\x03\x04" + bytes(60),
    }.items():
        yield name, magic + bytes(200)
    yield "empty", b""
    yield "zeros", bytes(500)
    yield "noise", rng.bytes(5000)
    yield "words", b"The quick brown fox jumps over the lazy dog.\n" * 20
