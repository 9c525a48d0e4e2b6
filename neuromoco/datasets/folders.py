"""Recordings in folders: which files, which classes, in an order that no file system decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions

PART_FOLDERS = frozenset({"train", "test", "val", "valid", "validation", "training", "testing"})
Part = Literal["train", "test"]  # of a data set
# A part of a recording: begin and end in microseconds of the file's own clock; it holds begin and ends before end.
Span = tuple[int, int]


@dataclass(frozen=True)
class Listing:
    """The recordings of one folder; each is a file, or a part of one.

    Attributes:
        root: the folder.
        files: S paths relative to it, sorted; a file stands there once for each of its parts.
        labels: S indices into `class_names`; empty for a flat folder.
        class_names: names of the class folders, sorted, as numbers if all are numbers; empty for a flat
            folder.
        spans: S parts of the files; empty where every file is one recording.
        options: what the files do not say of themselves.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    options: ReadOptions = field(default_factory=ReadOptions)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """S names that tell the recordings apart: of the file, and `[begin:end]` for a part of it."""
        if not self.spans:
            return self.files
        return tuple(f"{file}[{a}:{b}]" for file, (a, b) in zip(self.files, self.spans, strict=True))

    @property
    def paths(self) -> list[Path]:
        """S paths."""
        return [self.root / file for file in self.files]


def list_recordings(folder: Path | str, *, labelled: bool) -> Listing:
    """Lists a folder of class folders, or one flat folder of recordings.

    Hidden files are passed over. What each file holds is found out when it is read.

    Args:
        folder: the folder.
        labelled: whether classes are needed; if not, a flat folder will do.

    Raises:
        ConfigError: no such folder, nothing in it, files beside class folders, or train and test folders
            where classes should be.
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
            f"{root}: holds files ({files[0].name}) beside folders ({folders[0].name}); "
            "give a folder of class folders, or one flat folder of recordings"
        )
    if folders:
        return _class_folders(root, folders)
    if labelled:
        raise ConfigError(
            f"{root}: holds no class folders; training with labels and evaluation need one folder a class, "
            f"for example {root}/cat/{files[0].name}"
        )
    return Listing(root, tuple(file.name for file in files))


def _class_folders(root: Path, folders: list[Path]) -> Listing:
    parts = [folder for folder in folders if folder.name.lower() in PART_FOLDERS]
    if len(parts) == len(folders):
        raise ConfigError(f"{root}: holds {', '.join(f.name for f in parts)}, no classes; give {parts[0]}")
    names: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        files, nested = _contents(folder)
        if nested:
            raise ConfigError(f"{nested[0]}: a folder inside a class folder; class folders hold recordings only")
        if not files:
            raise ConfigError(f"{folder}: is an empty class folder; remove it or put recordings into it")
        names += [f"{folder.name}/{file.name}" for file in files]
        labels += [label] * len(files)
    return Listing(root, tuple(names), tuple(labels), tuple(folder.name for folder in folders))


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    seen = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    folders = [entry for entry in seen if entry.is_dir()]
    numbers = all(entry.name.isdecimal() for entry in folders)
    folders.sort(key=lambda entry: (int(entry.name) if numbers else 0, entry.name))
    return sorted((e for e in seen if not e.is_dir()), key=lambda entry: entry.name), folders
