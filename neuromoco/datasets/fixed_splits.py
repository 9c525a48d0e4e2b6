"""Fixed splits of published sets without one, so that everyone measures on the same recordings.

`fixed_splits.csv` holds the number of training recordings of each class, which come first when sorted by name as text;
the others are the test part. It is the split of SpikingJelly's `split_to_train_test_set(0.9, ...)` without shuffling,
which Spikformer and many others use: 9 of 10 recordings of a class, where N-Caltech101 needs rounding:

    n-caltech101        down, 7,795 for training and 914 for testing
    n-caltech101-ceil   up, 7,886 and 823, as SpikingJelly does
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
    """The counts of each class of "cifar10-dvs", "n-caltech101" or "n-caltech101-ceil"."""
    return {row["class"]: Counts(int(row["train"]), int(row["test"])) for row in _rows() if row["set"] == name}


@cache
def _rows() -> list[dict[str, str]]:
    text = files("neuromoco.datasets").joinpath(FILE).read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest != SHA256:
        raise NeuromocoError(f"{FILE}: has the SHA-256 {digest}, not {SHA256}: install neuromoco again")
    return list(csv.DictReader(text.splitlines()))
