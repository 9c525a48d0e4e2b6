"""Event files of every format that is read, with any bytes changed."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions, Recording, read_recording, read_windows, survey_recording
from neuromoco.events.writers import WRITERS
from tests.fuzz.bytes_damage import damaged
from tests.fuzz.campaign import Files
from tests.fuzz.seeds import SEEDS

FILE = "input"


def example() -> Recording:
    """A small recording with both polarities, equal times and gaps."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 200_000, 120))
    t[10:14] = t[10]
    return Recording.from_columns(
        t, rng.integers(0, 34, 120), rng.integers(0, 34, 120), rng.integers(0, 2, 120), width=34, height=34
    )


def seeds() -> dict[str, Files]:
    """A valid file of every format that is read, by name."""
    made = {name: {FILE: build(example())} for name, build in SEEDS.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, write in WRITERS.items():
            write(Path(folder) / name, example())
            made[name] = {FILE: (Path(folder) / name).read_bytes()}
    return made


def mutate(files: Files, rng: np.random.Generator) -> Files:
    """The file with a few bytes changed."""
    return {FILE: damaged(files[FILE], rng)}


def attempt(folder: Path, number: int) -> None:
    """Reads the file whole, window by window, or for a survey."""
    path = folder / FILE
    options = ReadOptions(sensor=(34, 34) if number % 2 else None, flip="x" if number % 5 == 0 else None)
    if number % 4 == 3:  # refused by formats that do not take it
        options = dataclasses.replace(options, salvage=True)
    try:
        if number % 3 == 0:
            for _ in read_windows(path, 500_000, options):
                pass
        elif number % 7 == 0:
            survey_recording(path, options)
        else:
            read_recording(path, options=options)
    except EventFileError as error:
        if not str(error).startswith(f"{path}: "):
            raise AssertionError(f"a message without the path: {error}") from None
        raise
