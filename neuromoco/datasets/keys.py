"""Keys of recordings: equal for equal content that is read in the same way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.datasets.folders import Listing
from neuromoco.events import ReadOptions

FIRST_OPTIONS = ("format", "sensor", "columns", "time_unit", "select", "salvage")  # of the first version, in its order


def digest(content: list[Any]) -> bytes:
    """16 bytes that stand for plain data."""
    return hashlib.sha256(json.dumps(content).encode()).digest()[:16]


def row_keys(listing: Listing) -> NDArray[np.uint64]:
    """Keys of S recordings, uint64 [S, 2]; two zeros are no key."""
    by_file = _file_parts(listing)
    spans = listing.spans or [None] * len(listing)
    crop = [listing.crop] if listing.crop else []
    keys = b"".join(digest([*by_file[file], span, *crop]) for file, span in zip(listing.files, spans, strict=True))
    return np.frombuffer(keys, np.uint64).reshape(-1, 2)


def files_digest(listing: Listing) -> str:
    """One hash for the content of all files of a listing, whatever they are called and wherever they lie."""
    hashes = sorted({str(parts[0]) for parts in _file_parts(listing).values()})
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def file_keys(listing: Listing, *more: Any) -> dict[str, bytes]:
    """A key of each file; `more` is plain data that it also stands for."""
    return {file: digest([*parts, *more]) for file, parts in _file_parts(listing).items()}


def _file_parts(listing: Listing) -> dict[str, list[Any]]:
    files = list(dict.fromkeys(listing.files))
    with ThreadPoolExecutor() as threads:  # hashing releases the GIL
        hashes = list(threads.map(_content_hash, (listing.root / file for file in files)))
    options = _plain(listing.options)
    # The extension decides between formats with equal content.
    return {file: [content, Path(file).suffix, options] for file, content in zip(files, hashes, strict=True)}


def _plain(options: ReadOptions) -> list[Any]:
    """Options as plain data. Those that came after the first version count where they are given."""
    later = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in FIRST_OPTIONS and getattr(options, field.name) != field.default
    }
    if options.defaults is not None:
        later["defaults"] = _plain(options.defaults)
    return [*(getattr(options, name) for name in FIRST_OPTIONS), *([later] if later else [])]


def _content_hash(path: Path) -> str:
    try:
        state = path.stat()
        return _hashed(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except OSError:  # such as a dangling link; reading it says why
        return f"unreadable {path.name}"


@lru_cache(maxsize=1 << 17)
def _hashed(path: Path, *state: int) -> str:
    """The hash of a file's content, which need not be read again while its `state` is the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
