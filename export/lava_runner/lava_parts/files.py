"""The files beside run_lava.py: manifest, frames, answers."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_parts import ending
from lava_parts.errors import UnusableFileError

DIALECTS = ("stock", "extended")
# What is read of a manifest, by its kind.
FIELDS = {
    "dialect": "text",
    "net": "text",
    "steps": "whole",
    "latency": "whole",
    "class_names": "texts",
    "reset.interval": "whole",
    "reset.offset": "whole",
    "input.shape": "shape",
    "input.message_bits": "whole",
    "input.largest": "whole",
    "readout.layer": "whole",
    "layers": "layers",
}
LAYER = {"index": "whole", "depth": "whole", "kind": "text"}
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: isinstance(value, str)),
    "whole": ("a whole number, 0 or more", lambda value: type(value) is int and value >= 0),
    "texts": ("a list of texts", lambda value: _is_list(value, "text")),
    "shape": ("a list of three whole numbers", lambda value: _is_list(value, "whole") and len(value) == 3),
    "object": ("an object", lambda value: isinstance(value, dict)),
    "layers": (
        f"a list of objects, each with {', '.join(LAYER)}",
        lambda value: (
            _is_list(value, "object")
            and all(name in layer and KINDS[kind][1](layer[name]) for layer in value for name, kind in LAYER.items())
        ),
    ),
}
# How files begin that are given for frames by mistake.
BEGINNINGS = {
    b"\x93NUMPY": "a single array (.npy)",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x89HDF": "an HDF5 file",
    b"#!AER-DAT": "an event file (.aedat)",
    b"\x80": "a pickle",
}


# Of numpy and zipfile; RuntimeError is for archives with a password, or of a later version of the format.
UNREADABLE = (OSError, ValueError, AttributeError, TypeError, EOFError, RuntimeError, OverflowError)


def _is_list(value: Any, kind: str) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(KINDS[kind][1](entry) for entry in value)


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads what an export says of itself.

    Raises:
        UnusableFileError: no such file, no JSON, a field that is missing or of another type.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableFileError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UnusableFileError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(manifest, dict):
        raise UnusableFileError(f"{path}: is {_shown(manifest)}, not an object")
    groups = {field.split(".")[0]: "object" for field in FIELDS if "." in field}
    missing = [name for name in (*FIELDS, *groups) if "." not in name and name not in manifest]
    missing += [name for name in FIELDS if "." in name and not _has(manifest, name)]
    if missing:
        raise UnusableFileError(f"{path}: lacks {', '.join(missing)}")
    for field, kind in (groups | FIELDS).items():
        value = manifest
        for name in field.split("."):
            value = value[name]
        wanted, fits = KINDS[kind]
        if not fits(value):
            raise UnusableFileError(f"{path}: {field} is {_shown(value)}, but must be {wanted}")
    if manifest["dialect"] not in DIALECTS:
        raise UnusableFileError(f"{path}: dialect {manifest['dialect']!r} is none of {', '.join(DIALECTS)}")
    return manifest


def read_frames(path: Path, manifest: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Reads event counts.

    Returns:
        The frames, and the logits that are expected if the file holds any.  # [T, N, P, H, W], [N, classes]

    Raises:
        UnusableFileError: no such file, or frames that the network does not take.
    """
    steps, *sides = manifest["steps"], *manifest["input"]["shape"]
    allowed = f"uint8 [{steps}, N, {', '.join(map(str, sides))}]"
    try:
        with path.open("rb") as file:
            begin = file.read(16)
        if not begin.startswith(b"PK"):
            what = next((what for first, what in BEGINNINGS.items() if begin.startswith(first)), None)
            what = f"is {what}" if what else f"begins with {begin!r}" if begin else "is empty"
            raise UnusableFileError(f"{path}: {what}; wanted is an .npz file with an array frames, {allowed}")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("frames", "logits") if name in archive}
    except FileNotFoundError:
        raise UnusableFileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UnusableFileError(
            f"{path}: is a folder; wanted is an .npz file with an array frames, {allowed}"
        ) from None
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        # numpy would say how to load objects unsafely.
        said = "it holds Python objects" if "pickle" in str(error) else str(error)
        raise UnusableFileError(f"{path}: not readable as npz ({said}); wanted is an array frames, {allowed}") from None
    if not isinstance(arrays.get("frames"), np.ndarray):
        raise UnusableFileError(f"{path}: holds no array named frames, {allowed}")
    frames, expected = arrays["frames"], arrays.get("logits")
    fits = frames.dtype == np.uint8 and frames.ndim == 5 and [len(frames), *frames.shape[2:]] == [steps, *sides]
    if not fits or not frames.size:
        raise UnusableFileError(f"{path}: frames are {frames.dtype} {list(frames.shape)}; the network takes {allowed}")
    largest = manifest["input"]["largest"]
    if frames.max() > largest:
        raise UnusableFileError(f"{path}: a count of {frames.max()}; the network takes up to {largest}")
    if expected is not None:
        shape = (frames.shape[1], len(manifest["class_names"]))
        if not isinstance(expected, np.ndarray) or expected.shape != shape or expected.dtype.kind not in "iuf":
            told = f"{expected.dtype} {list(expected.shape)}" if isinstance(expected, np.ndarray) else "no array"
            raise UnusableFileError(f"{path}: logits are {told}; to its frames belong numbers {list(shape)}")
    return frames, expected


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Writes beside the place and renames, so that a file that is there is whole.

    Raises:
        UnusableFileError: it cannot be written.
    """
    try:
        with ending.removed(path.with_name(path.name + ".part")) as beside:
            with beside.open("wb") as file:
                np.savez_compressed(file, **arrays)
            beside.replace(path)
    except OSError as error:
        raise UnusableFileError(f"{path}: cannot be written ({error.strerror or error})") from None


def _has(manifest: dict[str, Any], field: str) -> bool:
    """Whether a field in a group is there; a group that is missing, or no group, is told as such."""
    group, name = field.split(".")
    return not isinstance(manifest.get(group), dict) or name in manifest[group]


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
