"""Published sets that are folders of classes: N-MNIST, CIFAR10-DVS, N-Caltech101.

Each must have the number of recordings that its authors give. Messages of this module do not name the set.
"""

from __future__ import annotations

from pathlib import Path

from neuromoco.datasets.fixed_splits import Counts, fixed_split
from neuromoco.datasets.folders import Listing, Part, list_recordings
from neuromoco.errors import ConfigError
from neuromoco.support.console import say_once

N_MNIST = Counts(60_000, 10_000)
# CIFAR10-DVS from its authors, and the conversion that tonic downloads.
AUTHORS_CIFAR10, TONICS_CIFAR10 = "cifar10_*.aedat", "*.aedat4"


def n_mnist(folder: Path, part: Part) -> Listing:
    """N-MNIST (Orchard et al. 2015): `Train/<label>/*.bin` and `Test/<label>/*.bin`, split by the authors of MNIST."""
    root = _inner(folder, part.capitalize())
    listing = list_recordings(root, labelled=True)
    expected = getattr(N_MNIST, part)
    if len(listing) != expected:
        raise ConfigError(f"{root} holds {len(listing):,} recordings instead of {expected:,}")
    return listing


def cifar10_dvs(folder: Path, part: Part) -> Listing:
    """CIFAR10-DVS (Li et al. 2017): `<class>/cifar10_<class>_<number>.aedat`, split by `fixed_splits`.

    Without the authors' files, tonic's copy is used, `<class>/*.aedat4`.
    """
    pattern = AUTHORS_CIFAR10
    if not any(folder.glob(f"*/{AUTHORS_CIFAR10}")) and any(folder.glob(f"*/{TONICS_CIFAR10}")):
        pattern = TONICS_CIFAR10
        say_once("cifar10-dvs: tonic's copy, converted to AEDAT 4")
    return _split_by_name(folder, part, "cifar10-dvs", pattern)


def n_caltech101(folder: Path, part: Part, split: str) -> Listing:
    """N-Caltech101 (Orchard et al. 2015): `Caltech101/<class>/image_<number>.bin`, split by `fixed_splits`."""
    return _split_by_name(_inner(folder, "Caltech101"), part, split, "image_*.bin")


def _inner(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise ConfigError(f"no folder {folder / name}")
    return folder / name


def _split_by_name(root: Path, part: Part, name: str, pattern: str) -> Listing:
    """The first recordings of each class, sorted by name, for training; the last ones for testing."""
    files: list[str] = []
    labels: list[int] = []
    split = fixed_split(name)
    for label, (class_name, counts) in enumerate(split.items()):
        names = sorted(file.name for file in _inner(root, class_name).glob(pattern))
        if len(names) != sum(counts):
            number = f"{len(names):,} recordings ({pattern})"
            raise ConfigError(f"{root / class_name} holds {number} instead of {sum(counts):,}")
        chosen = names[: counts.train] if part == "train" else names[counts.train :]
        files += [f"{class_name}/{file}" for file in chosen]
        labels += [label] * len(chosen)
    return Listing(root, tuple(files), tuple(labels), tuple(split))
