"""Published sets that come as folders of classes: N-MNIST, CIFAR10-DVS, N-Caltech101.

Each is checked against the number of recordings that its authors give: a figure on half a set is none on the set.
"""

from __future__ import annotations

from pathlib import Path

from neuromoco.datasets.fixed_splits import Counts, fixed_split
from neuromoco.datasets.folders import Listing, Part, list_recordings
from neuromoco.errors import ConfigError
from neuromoco.support.console import say_once

N_MNIST = Counts(60_000, 10_000)
# Of CIFAR10-DVS: the authors' files, and those that tonic downloads, which somebody converted.
AUTHORS_CIFAR10, TONICS_CIFAR10 = "cifar10_*.aedat", "*.aedat4"


def n_mnist(folder: Path, part: Part) -> Listing:
    """N-MNIST (Orchard et al. 2015): `Train/<label>/*.bin` and `Test/<label>/*.bin`, split by the authors of MNIST.

    Raises:
        ConfigError: the folder does not look so; messages of this module do not name the set.
    """
    root = _inner(folder, part.capitalize())
    listing = list_recordings(root, labelled=True)
    wanted = getattr(N_MNIST, part)
    if len(listing) != wanted:
        raise ConfigError(f"{root} holds {len(listing):,} recordings instead of {wanted:,}")
    return listing


def cifar10_dvs(folder: Path, part: Part) -> Listing:
    """CIFAR10-DVS (Li et al. 2017): `<class>/cifar10_<class>_<number>.aedat`, split by `fixed_splits`.

    Tonic's copy, `<class>/*.aedat4`, is taken where the authors' is not there.
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
    """The first recordings of each class, sorted by name, to train on, or the last ones to test on."""
    files: list[str] = []
    labels: list[int] = []
    split = fixed_split(name)
    for label, (class_name, counts) in enumerate(split.items()):
        found = sorted(file.name for file in _inner(root, class_name).glob(pattern))
        if len(found) != sum(counts):
            raise ConfigError(
                f"{root / class_name} holds {len(found):,} recordings ({pattern}) instead of {sum(counts):,}"
            )
        chosen = found[: counts.train] if part == "train" else found[counts.train :]
        files += [f"{class_name}/{file}" for file in chosen]
        labels += [label] * len(chosen)
    return Listing(root, tuple(files), tuple(labels), tuple(split))
