"""Pictures that install by name and may be given away, as small stencils for the simulated camera.

A stencil is a picture of at most `SIDE` pixels a side: its grey values, and how opaque each pixel is.
"""

from __future__ import annotations

import gzip
import hashlib
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import ConfigError
from neuromoco.support.cache import cache_folder
from neuromoco.support.console import track
from neuromoco.support.files import files_in, locked, replacing_folder

SIDE = 96  # of a stencil, pixels
VERSION = 1  # raise it whenever stencils of the same pictures become others
FASHION = Path("/usr/share/datasets/fashion-mnist")
CLIPART = Path("/usr/share/openclipart/png")
LARGEST = 4096  # pixels a side of a picture that is read

Bytes = NDArray[np.uint8]


class Source(NamedTuple):
    """Pictures that install by name."""

    licence: str
    install: str  # what to type
    share: float  # of the recordings of a corpus
    read: Callable[[], Iterator[tuple[Bytes, Bytes]]]  # grey values and opacity, [h, w] each, of each picture
    is_there: Callable[[], bool]


@dataclass(frozen=True)
class Stencils:
    """N pictures of one source.

    Attributes:
        name: of the source.
        licence: of the pictures.
        share: of the recordings of a corpus, before the shares of all sources are made to sum to 1.
        pixels: grey values and opacity of one picture after another, each [2, h, w], uint8.
        sizes: h and w, [N, 2].
        sha256: of pixels and sizes.
    """

    name: str
    licence: str
    share: float
    pixels: Bytes
    sizes: NDArray[np.int64]
    sha256: str

    def __len__(self) -> int:
        return len(self.sizes)

    def picture(self, number: int) -> Bytes:
        """Grey values and opacity [2, h, w] of a picture."""
        begin, (height, width) = self._begins[number], self.sizes[number]
        return self.pixels[begin : begin + 2 * height * width].reshape(2, height, width)

    @cached_property
    def _begins(self) -> NDArray[np.int64]:
        """Where each picture begins among the pixels, [N]."""
        counts = 2 * self.sizes.prod(1)
        begins: NDArray[np.int64] = np.cumsum(counts) - counts
        return begins


def installed_pictures() -> list[Stencils]:
    """The pictures of every source that is installed, made small once and cached.

    Raises:
        ConfigError: one of the sources is missing; the message says how to install it.
    """
    if missing := [source for source in SOURCES.values() if not source.is_there()]:
        raise ConfigError(
            "the pictures of the corpus are not installed: "
            f"{'; '.join(source.install for source in missing)}; or give --pictures FOLDER"
        )
    return [_cached(name, source) for name, source in SOURCES.items()]


def pictures_in(folder: Path) -> Stencils:
    """The pictures of a folder, at any depth; what is no picture is passed over.

    Raises:
        ConfigError: there is no picture.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; --pictures takes a folder of pictures")
    pixels, sizes = _stencils(_pictures(files_in([folder])))
    if not len(sizes):
        raise ConfigError(f"{folder}: holds no picture; give PNG, JPEG or another format of Pillow")
    return Stencils(folder.name, "that of the folder", 1.0, pixels, sizes, _digest(pixels, sizes))


def read_idx(source: Path, name: str) -> Bytes:
    """Reads a file of bytes in the IDX format of MNIST, zipped or not: 0, 0, 8, rank, then sizes and values.

    Raises:
        ConfigError: the file is missing or damaged.
    """
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


def _clipart() -> Iterator[tuple[Bytes, Bytes]]:
    return _pictures(files_in([CLIPART]))


def _clothes() -> Iterator[tuple[Bytes, Bytes]]:
    for image in read_idx(FASHION, "train-images-idx3-ubyte"):  # bright on black; the ground is transparent
        yield image, np.minimum(image.astype(np.uint16) * 6, 255).astype(np.uint8)


def _digits() -> Iterator[tuple[Bytes, Bytes]]:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    for image in digits.images:  # 0 to 16, of 8 x 8 pixels: dark ink, scaled up and sharpened
        large = np.asarray(Image.fromarray(image.astype(np.float32) / 16).resize((48, 40), Image.Resampling.BICUBIC))
        ink = np.clip((large - 0.32) / 0.63, 0.0, 1.0)
        opacity: Bytes = np.rint(255 * ink * ink * (3 - 2 * ink)).astype(np.uint8)
        yield np.zeros_like(opacity), opacity


def _has_scikit_learn() -> bool:
    from importlib.util import find_spec

    return find_spec("sklearn") is not None


# N-MNIST shows pictures of MNIST, and is what encoders are measured on: they are never among these.
SOURCES = {
    "openclipart": Source(
        "public domain", "apt-get install openclipart-png", 0.5, _clipart, lambda: any(CLIPART.glob("*/*"))
    ),
    "fashion-mnist": Source("MIT", "apt-get install dataset-fashion-mnist", 0.25, _clothes, FASHION.is_dir),
    "digits": Source("BSD-3-Clause", "pip install scikit-learn", 0.25, _digits, _has_scikit_learn),
}


def _pictures(paths: Sequence[Path]) -> Iterator[tuple[Bytes, Bytes]]:
    """Grey values and opacity [h, w] of every file that is a picture, of at most `SIDE` pixels a side."""
    from PIL import Image, UnidentifiedImageError

    for path in track(paths, "reading pictures"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # too large ones are passed over
                image = Image.open(path)
            with image:
                if max(image.size) > LARGEST:
                    continue
                image.thumbnail((SIDE, SIDE), reducing_gap=2.0)
                layers = np.asarray(image.convert("RGBA").convert("LA"))
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError, ValueError):
            continue
        if layers[..., 1].any():
            yield layers[..., 0], layers[..., 1]


def _stencils(pictures: Iterable[tuple[Bytes, Bytes]]) -> tuple[Bytes, NDArray[np.int64]]:
    pixels, sizes = [], []
    for pair in pictures:
        layers = np.stack(pair)
        pixels.append(layers.ravel())
        sizes.append(layers.shape[1:])
    return np.concatenate(pixels or [np.empty(0, np.uint8)]), np.array(sizes, np.int64).reshape(-1, 2)


def _cached(name: str, source: Source) -> Stencils:
    folder = cache_folder() / f"pictures-{name}-{VERSION}"
    with locked(folder.parent / ".lock"):
        if not folder.is_dir():
            with replacing_folder(folder) as part:
                pixels, sizes = _stencils(source.read())
                np.save(part / "pixels.npy", pixels)
                np.save(part / "sizes.npy", sizes)
                (part / "sha256").write_text(_digest(pixels, sizes), encoding="ascii")
    try:
        pixels, sizes = np.load(folder / "pixels.npy", mmap_mode="r"), np.load(folder / "sizes.npy")
        digest = (folder / "sha256").read_text(encoding="ascii")
        if pixels.size != 2 * sizes.prod(1).sum():
            raise ValueError("pixels are missing")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: is damaged ({error}); delete it to have it made anew") from None
    return Stencils(name, source.licence, source.share, pixels, sizes, digest)


def _digest(pixels: Bytes, sizes: NDArray[np.int64]) -> str:
    return hashlib.sha256(pixels.tobytes() + sizes.tobytes()).hexdigest()
