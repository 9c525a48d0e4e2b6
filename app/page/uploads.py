"""Visitors' files: each in a folder of its own with a random name, and none for longer than ten minutes."""

from __future__ import annotations

import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from neuromoco.app.server.bodies import clean_name

KEPT_SECONDS = 600.0
MOST_FILES = 256
PLACE = re.compile(r"([0-9a-f]{32})/([^/\0]{1,255})")


class Uploads:
    """The files that visitors sent and that are not deleted yet.

    A visitor is told a place such as `5f…/walk.bin`: neither the folder that holds it nor another's place can be
    told from it.

    Args:
        folder: holds nothing else.
        most_bytes: of all files; the oldest are deleted before there are more.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self._most_bytes = folder, most_bytes

    def keep(self, file: Path, name: str) -> str:
        """Moves a file that was received, and returns its place."""
        place = f"{secrets.token_hex(16)}/{clean_name(name)}"
        kept = self.folder / place
        kept.parent.mkdir(0o700)
        file.rename(kept)
        self.tidy()
        return place

    def find(self, place: object) -> Path | None:
        """The file at a place, if a visitor's it is."""
        match = PLACE.fullmatch(place) if isinstance(place, str) else None
        if match is None or match[2] != clean_name(match[2]):
            return None
        file = self.folder / match[1] / match[2]
        return file if file.is_file() else None

    def tidy(self, seconds: float = KEPT_SECONDS) -> None:
        """Deletes what is older, and the oldest of what is too much."""
        found = []
        size, oldest_allowed = 0, time.time() - seconds
        for folder in list(self.folder.iterdir()):
            with suppress(OSError):  # deleted meanwhile, for another visitor
                files = list(folder.iterdir())
                found += [(kept.stat().st_mtime, kept.stat().st_size, kept) for kept in files]
                if not files and folder.stat().st_mtime <= oldest_allowed:
                    folder.rmdir()
        for number, (when, bytes_, kept) in enumerate(sorted(found, reverse=True)):
            size += bytes_
            if when <= oldest_allowed or number >= MOST_FILES or size > self._most_bytes:
                delete(kept)


def delete(upload: Path) -> None:
    """Deletes a visitor's file with its folder."""
    upload.unlink(missing_ok=True)
    with suppress(OSError):  # it holds another file, or was deleted meanwhile
        upload.parent.rmdir()
