"""Pictures of clothes (Fashion-MNIST, Xiao et al. 2017, arXiv 1708.07747) in front of the simulated camera.

The pictures are those of Debian's package dataset-fashion-mnist, or of a folder with the same files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from neuromoco.errors import ConfigError
from neuromoco.events import write_atis
from neuromoco.simulate import Saccades, record
from neuromoco.simulate.pictures import read_idx
from neuromoco.support.cache import cache_folder
from neuromoco.support.console import track
from neuromoco.support.files import locked, replacing_folder

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
EACH = 60  # of every class, the first
MOTION = Saccades(base=6.0, height=5.5)
VERSION = 1


def clothes_folder(source: Path, each: int = EACH) -> Path:
    """A cached folder of recordings, `<label>/<number>.bin`, made on first use; number k is seeded with k.

    Raises:
        ConfigError: `source` lacks the files, or they are damaged.
    """
    images, labels = (read_idx(source, name) for name in FILES)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ConfigError(f"{source}: {images.shape} images and {labels.shape} labels")
    facts = repr((VERSION, each, MOTION)).encode()
    key = hashlib.sha256(facts + images.tobytes() + labels.tobytes()).hexdigest()[:12]
    folder = cache_folder() / f"clothes-{key}"
    with locked(folder.parent / ".lock"):
        if not folder.is_dir():
            rows = [row for label in np.unique(labels) for row in np.flatnonzero(labels == label)[:each]]
            with replacing_folder(folder) as part:
                for row in track(rows, "recording clothes"):
                    target = part / str(labels[row]) / f"{row:05d}.bin"
                    target.parent.mkdir(exist_ok=True)
                    write_atis(target, record(images[row], motion=MOTION, seed=int(row)))
    return folder
