"""The files beside run_lava.py: manifest, frames, answers."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_parts.errors import UnusableFileError

DIALECTS = ("stock", "extended")
# What is read of a manifest, with the fields of those that have some.
FIELDS = {
    **dict.fromkeys(("dialect", "net", "steps", "latency", "class_names", "layers"), ()),
    "reset": ("interval", "offset"),
    "input": ("shape", "message_bits", "largest"),
    "readout": ("layer",),
}


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads what an export says of itself.

    Raises:
        UnusableFileError: no such file, no JSON, a field that is missing.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableFileError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UnusableFileError(f"{path}: not readable as JSON ({error})") from None
    missing = [field for field in FIELDS if not isinstance(manifest, dict) or field not in manifest]
    missing += [
        f"{f}.{name}" for f, names in FIELDS.items() if f not in missing for name in names if name not in manifest[f]
    ]
    if missing:
        raise UnusableFileError(f"{path}: lacks {', '.join(missing)}")
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
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in ("frames", "logits") if name in archive}
    except FileNotFoundError:
        raise UnusableFileError(f"{path}: no such file") from None
    except (OSError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UnusableFileError(f"{path}: not readable as npz ({error})") from None
    if "frames" not in arrays:
        raise UnusableFileError(f"{path}: holds no array named frames")
    frames, expected = arrays["frames"], arrays.get("logits")
    wanted = (manifest["steps"], *manifest["input"]["shape"])
    if frames.dtype != np.uint8 or frames.ndim != 5 or (len(frames), *frames.shape[2:]) != wanted or not frames.size:
        steps, *sides = wanted
        allowed = f"uint8 [{steps}, N, {', '.join(map(str, sides))}]"
        raise UnusableFileError(f"{path}: frames are {frames.dtype} {list(frames.shape)}; the network takes {allowed}")
    largest = manifest["input"]["largest"]
    if frames.max() > largest:
        raise UnusableFileError(f"{path}: a count of {frames.max()}; the network takes up to {largest}")
    if expected is not None and expected.shape != (frames.shape[1], len(manifest["class_names"])):
        raise UnusableFileError(f"{path}: logits of shape {list(expected.shape)} do not belong to its frames")
    return frames, expected


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Writes beside the place and renames, so that a file that is there is whole."""
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
