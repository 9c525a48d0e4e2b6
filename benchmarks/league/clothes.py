"""Pictures of clothes (Fashion-MNIST, Xiao et al. 2017, arXiv 1708.07747) in front of the simulated camera.

The pictures are those of Debian's package dataset-fashion-mnist, or of a folder with the same files.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import ConfigError
from neuromoco.events import write_atis
from neuromoco.simulate import Saccades, record
from neuromoco.support.cache import cache_folder
from neuromoco.support.console import track
from neuromoco.support.files import locked, replacing_folder

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
EACH = 60  # of every class, the first
MOTION = Saccades(base=6.0, height=5.5)
VERSION = 1


def clothes_folder(source: Path, each: int = EACH) -> Path:
    """A cached folder of recordings, `<label>/<number>.bin`, made on first use; number k is seeded with k.

    Raises:
        ConfigError: `source` lacks the files, or they are damaged.
    """
    images, labels = (_read_idx(source, name) for name in FILES)
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


def _read_idx(source: Path, name: str) -> NDArray[np.uint8]:
    """Reads a file of bytes in the IDX format, zipped or not: 0, 0, 8, rank, then sizes and values."""
    path = next((path for path in (source / name, source / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise ConfigError(f"{source}: has no {name}.gz; install Debian's dataset-fashion-mnist, or name its folder")
    try:
        raw: Any = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rank = raw[3]
        shape = np.frombuffer(raw, ">u4", rank, 4)
        values = np.frombuffer(raw, np.uint8, int(np.prod(shape.astype(np.int64))), 4 + 4 * rank)
        if raw[:3] != b"\0\0\x08":
            raise ValueError("not bytes")
        return values.reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise ConfigError(f"{path}: is no file of bytes in the IDX format ({error})") from None
