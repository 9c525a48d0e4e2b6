"""Splits of sets whose authors give none: they ship with the package, so that all measure on the same recordings.

`fixed_splits.csv` says for each class how many of its recordings, sorted by name as text, are to train on; the last
ones are the test part. That is the split of SpikingJelly's `split_to_train_test_set(0.9, ...)` without shuffling, which
Spikformer and many others use. The share is 9 of 10 of a class, and where that is no whole number:

    n-caltech101        rounded down, 7,795 to train on and 914 to test on
    n-caltech101-ceil   rounded up, 7,886 and 823, as SpikingJelly rounds
"""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from neuromoco.errors import NeuromocoError

FILE = "fixed_splits.csv"
SHA256 = "c493982948f9830fa0d06b5d81d2191e5e909a3aa4579f051e0184bf22080ae4"


class Counts(NamedTuple):
    """Recordings of a class in each part."""

    train: int
    test: int


def fixed_split(name: str) -> dict[str, Counts]:
    """How every class of a set is split.

    Args:
        name: "cifar10-dvs", "n-caltech101" or "n-caltech101-ceil".

    Raises:
        NeuromocoError: the file that came with the package is not the one that was shipped.
    """
    return {row["class"]: Counts(int(row["train"]), int(row["test"])) for row in _rows() if row["set"] == name}


@cache
def _rows() -> list[dict[str, str]]:
    text = files("neuromoco.datasets").joinpath(FILE).read_text(encoding="utf-8")
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != SHA256:
        raise NeuromocoError(f"{FILE}: has the SHA-256 {found}, not {SHA256}: install neuromoco again")
    return list(csv.DictReader(text.splitlines()))
