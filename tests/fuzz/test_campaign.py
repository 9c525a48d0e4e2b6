"""The campaign finds what it is for, and its inputs are the same each time."""

from __future__ import annotations

import io
import os
import struct
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from neuromoco.errors import ConfigError
from tests.fuzz import campaign
from tests.fuzz.campaign import Block, Files, Kind
from tests.fuzz.hdf5_files import lookup3
from tests.fuzz.kinds import KINDS


def numbered(files: Files, rng: np.random.Generator) -> Files:
    return {"input": files["input"]}


def misbehave(folder: Path, number: int) -> None:
    """Number 3 is read, 4 is refused, all others are findings."""
    if number == 5:
        os.abort()
    if number == 6:
        os.write(1, b"words")
    if number == 7:
        time.sleep(60)
    if number == 8:
        raise ConfigError("two\nlines")
    if number == 9:
        np.ones(1 << 28)  # 2 GiB
    if number == 4:
        raise ConfigError("not allowed")


def test_every_kind_of_misbehaviour_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "KEPT", tmp_path)
    monkeypatch.setattr(campaign, "NO_ANSWER_SECONDS", 2.5)
    kind = Kind("bad", 7, dict, numbered, misbehave)
    figures = campaign.run(Block(kind, "seed", {"input": b""}, 3, 10))
    assert figures.counts == {"read": 1, "refused": 1}
    told = ["ended with -6", "prints b'words'", "no answer", r"message 'two\nlines'", "MemoryError"]
    assert len(figures.findings) == len(told)
    for number, words, finding in zip(range(5, 10), told, figures.findings, strict=True):
        assert words in finding
        assert f"bad/seed --number {number}:" in finding
        assert (tmp_path / "bad/seed" / str(number) / "input").exists()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_inputs_are_the_same_each_time_and_differ(kind: Kind) -> None:
    seed, files = sorted(kind.seeds().items())[0]
    block = Block(kind, seed, files, 0, 8)
    inputs = [block.input(number) for number in range(8)]
    assert inputs == [block.input(number) for number in range(8)]
    assert any(found != inputs[0] for found in inputs)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in ("onnx", "checkpoints", "loihi")],
                         ids=lambda kind: kind.name)  # fmt: skip
def test_what_is_damaged_was_accepted_before(kind: Kind, tmp_path: Path) -> None:
    for seed, files in kind.seeds().items():
        campaign.lay_out(files, tmp_path / seed)
        kind.attempt(tmp_path / seed, 0)  # raises what refuses it


def test_checksums_are_those_of_hdf5() -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest"):
        pass
    content = buffer.getvalue()
    assert struct.unpack_from("<I", content, 44)[0] == lookup3(content[:44])
