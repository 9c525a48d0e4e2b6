"""AEDAT4 files whose header, packets and packing are damaged one by one and put together again."""

from __future__ import annotations

import importlib
import re
import sys

import lz4.frame
import numpy as np

from tests.fuzz.bytes_damage import damaged, overwrite
from tests.fuzz.campaign import Files
from tests.fuzz.event_files import FILE, example
from tests.helpers.aedat4_writer import INFO, header, numbered, packet

zstd = importlib.import_module("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
PACKERS = {0: bytes, 1: lz4.frame.compress, 3: zstd.compress}  # by IOHeader's `compression`
VERSION = b"#!AER-DAT4.0\r\n"


def seeds() -> dict[str, Files]:
    """Three packets, not packed and packed."""
    names = {0: "plain", 1: "lz4", 3: "zstd"}
    content = packet(example())
    made = {}
    for number, name in names.items():
        head = header(INFO.format(width=34, height=34), number)
        packed = PACKERS[number](content)
        whole = VERSION + head + 3 * numbered(packed)
        made[name] = {FILE: whole, "header": head, "packet": content, "compression": bytes([number])}
    return made


def mutate(files: Files, rng: np.random.Generator) -> Files:
    """A damaged part in a file that is otherwise whole, or, sometimes, any bytes of the file."""
    (number,) = files["compression"]
    head, content = files["header"], files["packet"]
    part = rng.random()
    if part < 0.1:
        return {FILE: damaged(files[FILE], rng)}
    if part < 0.3:
        head = _resized(_overwritten(head, rng))
    elif part < 0.45:
        words = re.findall(rb'"[^"]*"|<[^>]*>', head)
        word = words[int(rng.integers(len(words)))]
        other = (b'"-1"', b'"99999999999"', b'""', 50 * word, b"\xff\xfe", b"</dv>", b"&x;")[int(rng.integers(7))]
        head = _resized(head.replace(word, other, 1))
    packed = []
    for _ in range(3):
        raw = content
        if part >= 0.45 and rng.random() < 0.5:
            raw = _overwritten(content, rng) if rng.random() < 0.7 else _resized(damaged(content, rng))
        raw = PACKERS[number](raw)
        if part > 0.8 and rng.random() < 0.5:
            raw = damaged(raw, rng)
        whole = bytearray(numbered(raw, 0 if rng.random() < 0.95 else int(rng.integers(-2, 3))))
        if rng.random() < 0.05:
            overwrite(whole, int(rng.integers(8)), rng)
        packed.append(bytes(whole))
    return {FILE: VERSION + head + b"".join(packed)}


def _overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    """A flatbuffer with a few other numbers, mostly among its offsets."""
    raw = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        overwrite(raw, int(rng.integers(4, min(len(raw), 80 if rng.random() < 0.7 else len(raw)) - 8)), rng)
    return bytes(raw)


def _resized(content: bytes) -> bytes:
    """A flatbuffer after its true size."""
    return (len(content) - 4).to_bytes(4, "little") + content[4:] if len(content) > 4 else content
