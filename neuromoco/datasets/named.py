"""Data sets by name: the built-in digits, and published sets from the files as their authors distribute them.

`--data NAME` looks in `$NEUROMOCO_DATA/NAME`, by default `data/NAME`. Nothing is downloaded unasked: whoever has
unpacked the authors' archives there, or let `downloads` do it, has the set; others are told what to get and where.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from neuromoco.datasets.class_sets import cifar10_dvs, n_caltech101, n_mnist
from neuromoco.datasets.digits import digits_folder
from neuromoco.datasets.folders import Listing, Part, list_recordings
from neuromoco.datasets.gesture import dvs128_gesture
from neuromoco.errors import ConfigError

DIGITS = "digits"


class NamedSet(NamedTuple):
    """A published set.

    Attributes:
        folder: its folder, below `$NEUROMOCO_DATA`.
        page: where its authors give it away.
        archives: what to unpack into the folder.
        example: a file that is there afterwards.
        tonic: the class of `tonic.datasets` that downloads it.
        listing: what is in the folder: (folder, part) -> recordings.
    """

    folder: str
    page: str
    archives: str
    example: str
    tonic: str
    listing: Callable[[Path, Part], Listing]


CALTECH = NamedSet(
    "n-caltech101",
    "https://www.garrickorchard.com/datasets/n-caltech101",
    "Caltech101.zip",
    "Caltech101/airplanes/image_0001.bin",
    "NCALTECH101",
    lambda folder, part: n_caltech101(folder, part, "n-caltech101"),
)
SETS = {
    "n-mnist": NamedSet(
        "n-mnist",
        "https://www.garrickorchard.com/datasets/n-mnist",
        "Train.zip and Test.zip",
        "Train/0/00002.bin",
        "NMNIST",
        n_mnist,
    ),
    "n-caltech101": CALTECH,
    "n-caltech101-ceil": CALTECH._replace(listing=lambda folder, part: n_caltech101(folder, part, "n-caltech101-ceil")),
    "cifar10-dvs": NamedSet(
        "cifar10-dvs",
        "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        "airplane.zip and the other nine",
        "airplane/cifar10_airplane_0.aedat",
        "CIFAR10DVS",
        cifar10_dvs,
    ),
    "dvs128-gesture": NamedSet(
        "dvs128-gesture",
        "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8",
        "DvsGesture.tar.gz",
        "DvsGesture/trials_to_train.txt",
        "DVSGesture",
        dvs128_gesture,
    ),
}
NAMES = (DIGITS, *SETS)


def list_data(data: str, part: Part, *, labelled: bool = True) -> Listing:
    """The recordings that `--data` means: those in a folder, or a part of a named set.

    Args:
        data: one of `NAMES`, or a path.
        part: which part of a named set; a folder is taken as it is.
        labelled: whether classes are needed; if not, a flat folder will do.

    Raises:
        ConfigError: no such folder; a named set is not in its place, or is not whole.
        EventFileError: a table of labels cannot be read.
        MissingExtraError: the digits need scikit-learn.
    """
    if data == DIGITS:
        return list_recordings(digits_folder() / part, labelled=True)
    if data in SETS:
        return _published(data, part)
    if not Path(data).exists():
        raise ConfigError(f"{data}: does not exist; --data takes a folder of recordings, or one of {', '.join(NAMES)}")
    return list_recordings(data, labelled=labelled)


def set_folder(name: str) -> Path:
    """Where a published set is looked for."""
    return Path(os.environ.get("NEUROMOCO_DATA") or "data") / SETS[name].folder


def by_hand(name: str) -> str:
    """How to place a published set, as a part of a message."""
    given, folder = SETS[name], set_folder(name)
    return f"get {given.archives} from {given.page} and unpack into {folder}, so that {folder / given.example} is there"


def _published(name: str, part: Part) -> Listing:
    given, folder = SETS[name], set_folder(name)
    if not folder.is_dir():
        raise ConfigError(
            f"{name}: no folder {folder}; neuromoco download {name} fetches it, or {by_hand(name)} "
            f"(NEUROMOCO_DATA=FOLDER looks in FOLDER/{given.folder})"
        )
    try:
        return given.listing(folder, part)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}; {by_hand(name)}") from error
