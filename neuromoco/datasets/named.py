"""Data sets by name. A name becomes a folder of class folders, like any that a user has."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np

from neuromoco.console import track
from neuromoco.datasets.digits import DIGIT_MOTION, DIGIT_SENSOR, digit_images
from neuromoco.errors import MissingExtraError
from neuromoco.events import write_atis
from neuromoco.files import cache_folder, writing_folder
from neuromoco.simulate import record

Part = Literal["train", "test"]
DIGITS = "digits"
# The last fifth of every class in scikit-learn's order: by position, so that no seed moves a digit over.
DIGITS_TEST_SHARE = 0.2
# Raise it whenever the images of `digits.py` or the camera give other events for the same settings.
DIGITS_VERSION = 1


def data_folder(data: str, part: Part) -> Path:
    """The folder that `--data` means: a path, or the `part` of a named set, made on first use.

    Args:
        data: a path, or "digits": 1,797 handwritten digits before a simulated event camera.
        part: which part of a named set; a path is taken as it is.

    Raises:
        MissingExtraError: the named set needs scikit-learn.
    """
    return digits_folder() / part if data == DIGITS else Path(data)


def digits_folder() -> Path:
    """Records the digits on first use, in `train/<label>/` and `test/<label>/` as ATIS `.bin` files."""
    settings = [
        DIGITS_VERSION,
        dataclasses.asdict(DIGIT_SENSOR),
        dataclasses.asdict(DIGIT_MOTION),
        DIGITS_TEST_SHARE,
    ]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{DIGITS}-{key}"
    if not folder.exists():
        try:
            images, labels = digit_images()
        except ImportError:
            raise MissingExtraError("the data set `digits`", "train") from None
        with writing_folder(folder) as part:
            _record_digits(images, labels, part)
    return folder


def _record_digits(images: np.ndarray, labels: np.ndarray, folder: Path) -> None:
    test = np.zeros(len(labels), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        test[members[len(members) - round(DIGITS_TEST_SHARE * len(members)) :]] = True
        for part in ("train", "test"):
            (folder / part / str(label)).mkdir(parents=True)
    for index, image in enumerate(track(images, "recording digits")):
        place = folder / ("test" if test[index] else "train") / str(labels[index])
        recording = record(image, sensor=DIGIT_SENSOR, motion=DIGIT_MOTION, seed=index)
        write_atis(place / f"{index:04d}.bin", recording)
