"""Data sets by name: the built-in digits, and published sets as their authors distribute them.

`--data NAME` looks in `$NEUROMOCO_DATA/NAME`, by default `data/NAME`, for the unpacked archives; if they are missing,
the message says where to get them. Only `downloads` downloads anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from neuromoco.config import RecordingsConfig
from neuromoco.datasets.class_sets import cifar10_dvs, n_caltech101, n_mnist
from neuromoco.datasets.digits import digits_folder
from neuromoco.datasets.folders import Listing, Part, list_recordings
from neuromoco.datasets.gesture import dvs128_gesture
from neuromoco.datasets.samples import in_samples, list_labelled_parts, read_options, set_settings
from neuromoco.errors import ConfigError

DIGITS = "digits"


class NamedSet(NamedTuple):
    """A published set."""

    folder: str  # in $NEUROMOCO_DATA
    page: str  # of the authors, to download from
    archives: str  # to unpack into the folder
    example: str  # a file in the folder after unpacking
    tonic: str  # the class of `tonic.datasets` that downloads it
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


def list_data(data: str, part: Part, *, labelled: bool = True, recordings: RecordingsConfig | None = None) -> Listing:
    """Lists the recordings of a folder, or of a part of a named data set; windows alone need them to be read.

    "digits" are recorded to $NEUROMOCO_CACHE on first use; nothing else is written, and nothing is downloaded.

    Args:
        data: a folder with one folder of recordings per class, a flat folder of recordings, or a name: "digits",
            "n-mnist", "n-caltech101", "n-caltech101-ceil", "cifar10-dvs" or "dvs128-gesture".
        part: "train" or "test" part of a named set; ignored for a folder.
        labelled: whether classes are required; a flat folder has none.
        recordings: how recordings are read and become samples; wins over the `recordings.yaml` of a folder.

    Returns:
        The files, and their labels and class names if there are classes.

    Raises:
        ConfigError: no such folder, a named set is missing or incomplete, or settings that cannot be used.
        EventFileError: a table of labels cannot be read.
        MissingExtraError: "digits" needs scikit-learn.

    Examples:
        >>> from neuromoco.datasets import list_data
        >>> listing = list_data("models/examples", "test", labelled=False)
        >>> listing.files[0]
        '3.bin'
    """
    settings = recordings or RecordingsConfig()
    if data in NAMES:
        if settings.labels is not None:
            raise ConfigError(f"--labels with {data}, which has its own labels")
        listing = list_recordings(digits_folder() / part, labelled=True) if data == DIGITS else _published(data, part)
    elif not Path(data).exists():
        raise ConfigError(f"{data}: does not exist; --data takes a folder of recordings, or one of {', '.join(NAMES)}")
    else:
        settings = set_settings(Path(data), settings)
        by_table = settings.labels is not None and Path(data).is_dir()
        listing = list_labelled_parts(Path(data), settings) if by_table else list_recordings(data, labelled=labelled)
    options = read_options(settings, listing.options)
    return in_samples(replace(listing, options=options, skip_damaged=settings.skip_damaged), settings)


def set_folder(name: str) -> Path:
    """The folder of a published set."""
    return Path(os.environ.get("NEUROMOCO_DATA") or "data") / SETS[name].folder


def manual_steps(name: str) -> str:
    """The steps to get a published set, as a part of a message."""
    entry, folder = SETS[name], set_folder(name)
    return f"get {entry.archives} from {entry.page} and unpack into {folder}, so that {folder / entry.example} exists"


def _published(name: str, part: Part) -> Listing:
    entry, folder = SETS[name], set_folder(name)
    if not folder.is_dir():
        raise ConfigError(
            f"{name}: no folder {folder}; neuromoco download {name} fetches it, or {manual_steps(name)} "
            f"(NEUROMOCO_DATA=FOLDER looks in FOLDER/{entry.folder})"
        )
    try:
        return entry.listing(folder, part)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}; {manual_steps(name)}") from error
