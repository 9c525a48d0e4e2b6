"""Lists recordings in folders, and their classes, in an order that does not depend on the file system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neuromoco.config.frames import Crop
from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions
from neuromoco.support.console import say_once

PART_FOLDERS = frozenset({"train", "test", "val", "valid", "validation", "training", "testing"})
SET_FILE = "recordings.yaml"  # says what the files of a folder do not say of themselves
# What lies about in folders of recordings: by the begin of the name, and by its end.
STRAY_NAMES = re.compile(
    r"(readme|notes?|licen[cs]e|copying|changelog|citation|todo|labels?|classes|thumbs|desktop)\b", re.I
)
STRAY_ENDS = (
    ".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".db", ".ini", ".yaml", ".yml", ".json", ".xml",
    ".html", ".log", ".py", ".m", ".sh", ".ipynb", ".docx", ".xlsx", ".tmp", ".part", ".md5",
)  # fmt: skip
MACOS = "__MACOSX"
Part = Literal["train", "test"]  # of a data set
Span = tuple[int, int]  # a part of a recording: begin and excluded end, microseconds of the file's clock


@dataclass(frozen=True)
class Listing:
    """S recordings of a folder; each is a file, or a part of one.

    Attributes:
        root: the folder.
        files: S paths relative to it, sorted; a file is repeated for each of its parts.
        labels: S indices into `class_names`; empty for a flat folder.
        class_names: names of the class folders, sorted, numerically if all are numbers; empty for a flat folder.
        spans: S parts of the files; empty if each file is one recording.
        options: what the files do not say of themselves.
        groups: S names of what must stay on one side of a split; empty if that is the file.
        skip_damaged: go on without files that cannot be read.
        crop: the part of the sensor that is used of these recordings, whichever a network uses: left column, top row,
            width and height. "activity" is that in which their events lie; None leaves it to the network.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    options: ReadOptions = field(default_factory=ReadOptions)
    groups: tuple[str, ...] = ()
    skip_damaged: bool = False
    crop: Crop = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """S unique names: the file, and `[begin:end]` for a part of it."""
        if not self.spans:
            return self.files
        return tuple(f"{file}[{a}:{b}]" for file, (a, b) in zip(self.files, self.spans, strict=True))

    @property
    def group_of(self) -> tuple[str, ...]:
        """What must stay on one side of a split, S names: the group, else the file."""
        return self.groups or self.files

    def known_by(self, options: ReadOptions) -> Listing:
        """This listing, read with other options."""
        return replace(self, options=options)

    def of_part(self, crop: Crop) -> Listing:
        """This listing with another part of the sensor."""
        return replace(self, crop=crop)

    def only(self, rows: Sequence[int]) -> Listing:
        """These recordings alone, with the classes of all."""

        def of(column: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(column[row] for row in rows) if column else ()

        return replace(self, files=of(self.files), labels=of(self.labels), spans=of(self.spans), groups=of(self.groups))

    @property
    def paths(self) -> list[Path]:
        """S paths."""
        return [self.root / file for file in self.files]

    def labels_among(self, class_names: Sequence[str]) -> NDArray[np.int64]:
        """The labels as indices [S] into the class names of a model.

        Raises:
            ConfigError: the model does not know a class.
        """
        unknown = [name for name in self.class_names if name not in class_names]
        if unknown:
            known = ", ".join(class_names)
            raise ConfigError(f"{self.root}: class {unknown[0]} is unknown to the model; it knows {known}")
        return np.array([class_names.index(self.class_names[label]) for label in self.labels])


def list_recordings(folder: Path | str, *, labelled: bool) -> Listing:
    """Lists a folder of class folders, or a flat folder of recordings, without reading the files.

    Hidden files are ignored, and so are those that lie about in folders without being recordings, such as `notes.txt`
    or `Thumbs.db`; these are named once.

    Args:
        folder: the folder.
        labelled: whether classes are required; a flat folder has none.

    Raises:
        ConfigError: the folder is missing or empty, mixes files and folders, holds train and test folders instead of
            classes, or a class whose name is no UTF-8.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ConfigError(f"{root}: {what}; --data takes a folder of recordings")
    files, folders = _contents(root)
    if not files and not folders:
        raise ConfigError(f"{root}: is empty; --data takes a folder of recordings")
    if files and folders:
        raise ConfigError(
            f"{root}: holds both files ({files[0].name}) and folders ({folders[0].name}); "
            "give a folder of class folders, or one flat folder of recordings"
        )
    if folders:
        return _class_folders(root, folders)
    if labelled:
        raise ConfigError(
            f"{root}: holds no class folders; training with labels and evaluation need one folder per class, "
            f"for example {root}/cat/{files[0].name}"
        )
    return Listing(root, tuple(file.name for file in files))


def _class_folders(root: Path, folders: list[Path]) -> Listing:
    parts = [folder for folder in folders if folder.name.lower() in PART_FOLDERS]
    if len(parts) == len(folders):
        raise ConfigError(f"{root}: holds {', '.join(f.name for f in parts)} instead of classes; give {parts[0]}")
    names: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        if not is_utf8(folder.name):
            raise ConfigError(f"{folder}: the name of a class is not UTF-8, which checkpoints need; rename the folder")
        files, nested = _contents(folder)
        if nested:
            raise ConfigError(f"{nested[0]}: a folder inside a class folder; class folders hold recordings only")
        if not files:
            raise ConfigError(f"{folder}: is an empty class folder; remove it or put recordings into it")
        names += [f"{folder.name}/{file.name}" for file in files]
        labels += [label] * len(files)
    return Listing(root, tuple(names), tuple(labels), tuple(folder.name for folder in folders))


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files, folders = [e for e in visible if not e.is_dir()], [e for e in visible if e.is_dir() and e.name != MACOS]
    if stray := [file for file in files if is_stray(file.name)]:
        files = [file for file in files if file not in stray]
        named = [file.name for file in stray if file.name != SET_FILE]
        if named:
            say_once(f"{folder}: no recordings, passed over: {', '.join(named)}")
    if all(entry.name.isdecimal() for entry in folders):
        folders.sort(key=lambda entry: int(entry.name))
    return files, folders


def is_utf8(name: str) -> bool:
    """Whether the name of a file or folder is text; others have bytes that Python keeps as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def is_stray(name: str) -> bool:
    """Whether a file is, by its name, none of the recordings that it lies among."""
    return name.lower().endswith(STRAY_ENDS) or STRAY_NAMES.match(name) is not None
