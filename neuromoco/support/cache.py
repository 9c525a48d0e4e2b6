"""The folder of files that can be recomputed: frames, compiled kernels, the built-in digits.

It belongs to one user, on one machine or on several: compiled kernels are run, so whoever may write here decides what
runs. Each folder, from the root of the cache down, is made with mode 0700, and one that exists is used only if it is no
link, belongs to this user, and nobody else may write to it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from neuromoco.errors import ConfigError
from neuromoco.support.disk_errors import disk_errors

OTHER_PLACE = "set NEUROMOCO_CACHE to a folder of your own"
OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder(*inside: str) -> Path:
    """The folder $NEUROMOCO_CACHE, else the user's cache folder, or one inside it: made if missing, and checked.

    Args:
        inside: names, from the root of the cache down.

    Raises:
        ConfigError: a folder is a link, another user's, or writable by others.
        DiskError: it cannot be made.
    """
    folder = _root()
    for name in ("", *inside):
        folder = folder / name
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if problem := _problem(folder.lstat()):
                raise ConfigError(f"{folder}: {problem.format(folder)}, or {OTHER_PLACE}")
    return folder


def _root() -> Path:
    """The root of the cache. It may be a link, of this user's or of root's, to another disk."""
    if named := os.environ.get("NEUROMOCO_CACHE"):
        root = Path(named)
    elif above := os.environ.get("XDG_CACHE_HOME"):
        root = Path(above) / "neuromoco"
    else:
        try:
            root = Path.home() / ".cache" / "neuromoco"
        except RuntimeError as error:
            raise ConfigError(f"no home folder to keep a cache in: {OTHER_PLACE}") from error
    with disk_errors(root):
        if root.is_symlink() and root.lstat().st_uid not in (_user(), 0):
            raise ConfigError(f"{root}: is a link of another user; delete it, or {OTHER_PLACE}")
        return root.resolve()


def _problem(state: os.stat_result) -> str | None:
    """Why others can write into a folder, and what to do about it; `{}` stands for its path."""
    if not stat.S_ISDIR(state.st_mode):
        return "is a link or a file, no folder; delete it"
    if os.name == "nt":  # has other rights, which follow from the folder above
        return None
    if state.st_uid != _user():
        return f"belongs to another user (number {state.st_uid}), who could put programs there"
    if state.st_mode & OTHERS:
        mode = stat.S_IMODE(state.st_mode)
        return f"others may write to it (mode {mode:04o}); delete it, or if you trust what is in it: chmod 700 '{{}}'"
    return None


def is_own_file(descriptor: int) -> bool:
    """Whether an open file is a regular one that belongs to this user and that nobody else may write to."""
    state = os.fstat(descriptor)
    return stat.S_ISREG(state.st_mode) and (os.name == "nt" or (state.st_uid == _user() and not state.st_mode & OTHERS))


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0
