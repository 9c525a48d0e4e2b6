"""Shared by all tests: a cache and a working folder of their own, and small recordings."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco import Recording
from neuromoco.events import write_atis

# A shell starts jobs in the background with Ctrl-C ignored, which the programs that the tests interrupt would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Each training collects garbage, which would look through all modules that were imported, over and over."""
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # some libraries complain of what is left when Python ends


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where named sets are looked for."""
    monkeypatch.setenv("NEUROMOCO_DATA", str(tmp_path))
    return tmp_path


def named_folder(variable: str, what: str) -> Path:
    """The folder that a variable of the environment names; where it names none, the test is skipped."""
    if not os.environ.get(variable):
        pytest.skip(f"set {variable} to a folder of {what}")
    return Path(os.environ[variable])


@pytest.fixture
def real_folder() -> Path:
    """Real N-MNIST recordings in class folders."""
    return named_folder("NEUROMOCO_TEST_RECORDINGS", "N-MNIST class folders")


@pytest.fixture
def event_files() -> Path:
    """Real files of every camera format."""
    return named_folder("NEUROMOCO_TEST_EVENT_FILES", "camera files")


def make_recording(seed: int, events: int = 600, label: int = 0) -> Recording:
    """Random events of 300 ms on 34 x 34 pixels; the label decides in which quarter most of them lie."""
    rng = np.random.default_rng(seed)
    corner = np.array([(0, 0), (17, 0), (0, 17), (17, 17)][label % 4])
    place = np.where(
        rng.random((events, 1)) < 0.8, corner + rng.integers(0, 17, (events, 2)), rng.integers(0, 34, (events, 2))
    )
    t = np.sort(rng.integers(0, 300_000, events))
    t[0], t[-1] = 0, 300_000
    return Recording.from_columns(t, place[:, 0], place[:, 1], rng.integers(0, 2, events), width=34, height=34)


@pytest.fixture
def choosing_from_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few recordings are held out to choose an epoch, which otherwise takes `FEWEST_TO_CHOOSE`."""
    monkeypatch.setattr("neuromoco.datasets.splits.FEWEST_TO_CHOOSE", 1)


@pytest.fixture
def class_folders(tmp_path: Path) -> Callable[[int, int], Path]:
    """Writes a folder of class folders of learnable recordings: (classes, recordings a class) -> folder."""

    def write(classes: int, each: int) -> Path:
        for label in range(classes):
            for number in range(each):
                folder = tmp_path / "data" / f"class{label}"
                folder.mkdir(parents=True, exist_ok=True)
                write_atis(folder / f"{number:03d}.bin", make_recording(label * 1000 + number, label=label))
        return tmp_path / "data"

    return write
