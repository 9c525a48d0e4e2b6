"""Recordings from a pipe: `-` or `/dev/stdin` for the standard input, `/dev/fd/N` for `<(command)` of a shell.

Readers look back and forth in a file, so a pipe is copied to a temporary one, once in a process.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from neuromoco.errors import EventFileError

NAMES = re.compile(r"-|/dev/stdin|/(?:dev|proc/self)/fd/(\d+)")
_folders: list[tempfile.TemporaryDirectory[str]] = []  # deleted when the process ends


def is_pipe(path: Path) -> bool:
    """Whether a path stands for a pipe of this process. Named pipes do not: opening one could wait for ever."""
    return NAMES.fullmatch(str(path)) is not None and not path.is_file()


def seekable(path: Path) -> Path:
    """The file with the content of a pipe; another path stays as it is.

    Raises:
        EventFileError: the standard input is a terminal.
        OSError: there is no such pipe, or no room for its content.
    """
    return _copied(str(path)) if is_pipe(path) else path


@cache
def _copied(name: str) -> Path:
    match = NAMES.fullmatch(name)
    number = int(match[1] or 0) if match else 0
    if os.isatty(number):
        raise EventFileError("is the terminal; pipe a recording into it: cat FILE | neuromoco info -")
    _folders.append(tempfile.TemporaryDirectory(prefix="neuromoco-"))
    copy = Path(_folders[-1].name) / "piped"
    with os.fdopen(os.dup(number), "rb") as pipe, copy.open("wb") as file:
        shutil.copyfileobj(pipe, file)
    return copy
