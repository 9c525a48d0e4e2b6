"""Handwritten digits recorded by the simulated camera: small, without a download, and similar to N-MNIST.

The digits are scikit-learn's, of 8 x 8 pixels (Alpaydin and Kaynak 1998). The constants below were fitted to N-MNIST;
`benchmarks/simulated_vs_real.py` compares events, shares of ON, sizes and background rates.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import MissingExtraError
from neuromoco.events import write_atis
from neuromoco.simulate import Saccades, SensorConfig, record
from neuromoco.support.cache import cache_folder
from neuromoco.support.console import track
from neuromoco.support.files import locked, remove, replacing_folder

# The refractory time is the 1 % quantile of the intervals within a pixel of N-MNIST; the background rate is measured at
# the border of its field, which no digit reaches.
DIGIT_SENSOR = SensorConfig(
    threshold_on=0.253,
    threshold_off=0.25,
    mismatch=0.15,
    refractory_us=1500,
    noise_hz=0.42,
    noise_on_share=0.89,
    eps=0.02,
    step_us=3000,
)
DIGIT_MOTION = Saccades(base=6.0, height=5.5, saccade_us=103_000)

TEST_SHARE = 0.2  # the last fifth of each class in scikit-learn's order, whatever the seed
# Raise it whenever the images or the camera produce other events from the same settings.
VERSION = 1
DIGEST = ".sha256"  # file with the digest of all recordings, by which damage is noticed

# Side of an image, and the part that the 8 x 8 digit fills: wider than high, because most digits of scikit-learn leave
# their outer columns empty.
_SIDE, _ROWS, _COLUMNS = 28, 20, 24
PAPER, INK = 0.32, 0.95  # interpolated ink below is paper, above is full ink: keeps strokes thin
DEPTH = 0.825  # share of the light that full ink absorbs; sets the number of events per edge


def digit_images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scikit-learn's digits for the simulated camera: images float32 [1797, 28, 28], labels int64 [1797].

    Each is scaled up with cubic splines, sharpened, and centred on a white square (1; full ink is 0.175). Dark on white
    as in N-MNIST, where the trailing edge of a moving stroke causes the ON events.
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    scale = (1, _ROWS / 8, _COLUMNS / 8)
    ink = zoom(digits.images / 16, scale, order=3, mode="grid-constant", grid_mode=True)
    ink = np.clip((ink - PAPER) / (INK - PAPER), 0.0, 1.0)
    ink = ink * ink * (3 - 2 * ink)
    images = np.ones((len(ink), _SIDE, _SIDE), dtype=np.float32)
    top, left = (_SIDE - _ROWS) // 2, (_SIDE - _COLUMNS) // 2
    images[:, top : top + _ROWS, left : left + _COLUMNS] = 1 - DEPTH * ink
    return images, digits.target.astype(np.int64)


def digits_folder() -> Path:
    """A cached folder of the recorded digits, `train/<label>/*.bin` and `test/<label>/*.bin`, made on first use.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    settings = [VERSION, dataclasses.asdict(DIGIT_SENSOR), dataclasses.asdict(DIGIT_MOTION), TEST_SHARE]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    cache = cache_folder()
    folder = cache / f"digits-{key}"
    if not _is_whole(folder):
        with locked(cache / ".lock"):
            if not _is_whole(folder):  # another process may have been faster
                _make(folder)
    return folder


def _make(folder: Path) -> None:
    try:
        images, labels = digit_images()
    except ImportError:
        raise MissingExtraError("the data set `digits`", "train") from None
    for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
        remove(left)
    with replacing_folder(folder) as part:
        _record_digits(images, labels, part)
        (part / DIGEST).write_text(_digest(part), encoding="ascii")


def _is_whole(folder: Path) -> bool:
    """Whether the recordings in a folder are those that were written there."""
    try:
        return (folder / DIGEST).read_text(encoding="ascii") == _digest(folder)
    except (OSError, ValueError):
        return False


def _digest(folder: Path) -> str:
    """The SHA-256 of all recordings in a folder, with their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*/*")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def _record_digits(images: NDArray[np.float32], labels: NDArray[np.int64], folder: Path) -> None:
    test = np.zeros(len(labels), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        test[members[len(members) - round(TEST_SHARE * len(members)) :]] = True
        for part in ("train", "test"):
            (folder / part / str(label)).mkdir(parents=True)
    for index, image in enumerate(track(images, "recording digits")):
        parent = folder / ("test" if test[index] else "train") / str(labels[index])
        recording = record(image, sensor=DIGIT_SENSOR, motion=DIGIT_MOTION, seed=index)
        write_atis(parent / f"{index:04d}.bin", recording)
