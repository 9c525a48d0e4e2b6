"""ROS recordings: damaged messages in whole containers, and containers whose records and pages are damaged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neuromoco import Recording
from tests.fuzz.bytes_damage import damaged, overwrite
from tests.fuzz.campaign import Files
from tests.fuzz.event_files import FILE, example
from tests.fuzz.seeds import evt3_words
from tests.helpers.outcomes import rows
from tests.helpers.ros_writers import (
    ARRAY,
    PACKET,
    Message,
    bag,
    cdr_array,
    cdr_packet,
    database,
    mcap,
    ros1_array,
    ros1_packet,
)

PAGE = 4096


def _database(messages: list[Message]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        database(Path(folder) / "a.db3", messages)
        return (Path(folder) / "a.db3").read_bytes()


CONTAINERS: dict[str, Callable[[list[Message]], bytes]] = {
    "bag": lambda messages: bag(messages),
    "bag_bz2": lambda messages: bag(messages, "bz2"),
    "bag_lz4": lambda messages: bag(messages, "lz4"),
    "mcap": lambda messages: mcap(messages),
    "mcap_lz4": lambda messages: mcap(messages, "lz4"),
    "mcap_bare": lambda messages: mcap(messages, None),
    "db3": _database,
}


def seeds() -> dict[str, Files]:
    """Three messages of packets, or of arrays, in every container."""
    made = {}
    for name, contain in CONTAINERS.items():
        for kind in (PACKET, ARRAY):
            parts = _messages(example(), kind, ros1=name.startswith("bag"))
            whole = contain([("/camera", kind, part) for part in parts])
            label = f"{name}_{'packets' if kind == PACKET else 'arrays'}"
            made[label] = {FILE: whole, "container": name.encode(), "kind": kind.encode()}
            made[label] |= {f"message{number}": part for number, part in enumerate(parts)}
    return made


def _messages(recording: Recording, kind: str, ros1: bool) -> list[bytes]:
    events = rows(recording)
    if kind == ARRAY:
        return [(ros1_array if ros1 else cdr_array)(events[at : at + 40], (34, 34)) for at in (0, 40, 80)]
    words = evt3_words(recording)
    return [(ros1_packet if ros1 else cdr_packet)(words[at : at + 320], sensor=(34, 34)) for at in (0, 320, 640)]


def mutate(files: Files, rng: np.random.Generator) -> Files:
    """Damaged messages, or a damaged container; of a database mostly the beginnings of its pages."""
    if rng.random() < 0.5:
        parts = [files[f"message{number}"] for number in range(3)]
        parts = [_overwritten(part, rng) if rng.random() < 0.6 else part for part in parts]
        contain, kind = CONTAINERS[files["container"].decode()], files["kind"].decode()
        return {FILE: contain([("/camera", kind, part) for part in parts])}
    if files["container"] != b"db3" or rng.random() < 0.3:
        return {FILE: damaged(files[FILE], rng)}
    raw = bytearray(files[FILE])
    for _ in range(int(rng.integers(1, 4))):
        page = PAGE * int(rng.integers(len(raw) // PAGE))
        overwrite(raw, page + int(rng.integers(0, 120 if rng.random() < 0.7 else PAGE - 8)), rng)
    return {FILE: bytes(raw)}


def _overwritten(message: bytes, rng: np.random.Generator) -> bytes:
    raw = bytearray(message)
    overwrite(raw, int(rng.integers(min(len(raw), 90) if rng.random() < 0.7 else len(raw))), rng)
    return bytes(raw) if rng.random() < 0.9 else damaged(bytes(raw), rng)
