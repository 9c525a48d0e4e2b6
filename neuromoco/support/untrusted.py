"""Reading what a stranger may have made: files that are no files, texts without end, messages of other libraries."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

LONGEST_REASON = 200  # characters


def read_bytes(path: Path | str, most: int) -> bytes:
    """The content of a regular file; of nothing else, since a pipe never ends and a device may do anything.

    Raises:
        ValueError: it is missing, no regular file, empty, cannot be read, or has more than `most` bytes; the message
            is what is said about the path.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("is no regular file")
            if found.st_size > most:
                raise ValueError(f"has {found.st_size:,} bytes; at most {most:,} are read")
            content = file.read(found.st_size + 1)  # not `most`, for which Python would take memory
    except FileNotFoundError:
        raise ValueError("does not exist") from None
    except IsADirectoryError:
        raise ValueError("is a folder") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from None
    if not content:
        raise ValueError("is empty")
    if len(content) > most:
        raise ValueError(f"has more than {most:,} bytes")
    return content


def is_regular(path: Path | str) -> bool:
    """Whether a path is a regular file: one that can be opened without waiting."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):  # ValueError: a zero in the name
        return False


def parse_json(text: str | bytes) -> Any:
    """Plain data from JSON; ValueError for whatever is wrong with it, such as lists a thousand deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def one_line(error: BaseException | str) -> str:
    """What an error says, in one line of printable characters and a moderate length."""
    words = " ".join(str(error).split()) or type(error).__name__
    line = "".join(c if c.isprintable() else "?" for c in words)
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 3]}..."
