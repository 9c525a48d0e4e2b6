"""Records pictures with the simulated camera."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import ConfigError
from neuromoco.events import write_npz
from neuromoco.simulate import ClosedLoop, Saccades, record
from neuromoco.support.extras import need

LARGEST = 4096  # pixels per side


def record_picture(
    picture: Path, out: Path, motion: Literal["saccades", "loop"], sensor: tuple[int, int], seed: int
) -> None:
    """Records a picture, scaled to fit the sensor, and writes the recording."""
    width, height = sensor
    path = Saccades() if motion == "saccades" else ClosedLoop()
    write_npz(out, record(_grey(picture, width, height), motion=path, width=width, height=height, seed=seed))


def _grey(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Grey values [h, w] of a picture, no larger than the sensor."""
    need("train", "neuromoco simulate")
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if max(image.size) > LARGEST:
                raise ConfigError(f"{path}: {image.size[0]} x {image.size[1]} pixels; the limit is {LARGEST} per side")
            grey = image.convert("L")
            grey.thumbnail((width, height))
            return np.asarray(grey)
    except UnidentifiedImageError:
        raise ConfigError(f"{path}: is not a picture; give PNG, JPEG, PGM or another format of Pillow") from None
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}: cannot be opened as a picture ({reason})") from None
