"""What a full or broken disk raises, by whatever library, as one exception with one line."""

from __future__ import annotations

import errno
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuromoco.errors import DiskError, NeuromocoError

FULL = "the disk is full; free some space and run it again"
# What the system says -> what the user does.
ADVICE = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "your quota of disk space is used up; free some space and run it again",
    errno.EFBIG: "the file would be larger than this disk or your limits allow; give a folder on another disk",
    errno.EROFS: "the disk is read-only; give a folder on another disk",
    errno.EACCES: "permission denied; give a folder of your own",
    errno.EPERM: "permission denied; give a folder of your own",
    errno.EIO: "the disk fails (input/output error); give a folder on another disk",
    errno.ENOENT: "its folder is gone; was it deleted, or is its disk no longer there?",
    errno.ENOTDIR: "a part of the path is a file; give another path",
    errno.EISDIR: "is a folder; give another path",
    errno.EEXIST: "exists already; give another path",
    errno.ENOTEMPTY: "exists already; give another path",
    errno.ELOOP: "is a link, which is not followed; delete it",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.ESTALE: "the network disk is gone (stale handle); run it again once it is back",
    errno.ENODEV: "the disk is gone; run it again once it is back",
    errno.ENXIO: "the disk is gone; run it again once it is back",
    errno.ENOTCONN: "the network disk is gone; run it again once it is back",
    errno.ENOSYS: "this disk lacks a function that is needed, such as locks; give a folder on another disk",
    errno.ENOTSUP: "this disk lacks a function that is needed, such as locks; give a folder on another disk",
    errno.ENOLCK: "this disk knows no locks; give a folder on another disk",
}
# safetensors (Rust) and h5py (C) name the system's number in words alone.
NUMBER = re.compile(r"(?:os error|errno =) (\d+)")
PROBE_BYTES = 1 << 16


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turns what a full or broken disk raises in this context, by whatever library, into a DiskError about `path`."""
    try:
        yield
    except NeuromocoError:
        raise
    except Exception as error:
        if advice := disk_problem(error, Path(path)):
            raise DiskError(f"{path}: {advice}") from error
        raise


def disk_problem(error: Exception, path: Path) -> str | None:
    """What the disk that `path` is on has to do with an error, and what to do; None if it is another error."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (named := NUMBER.search(str(error))):
        number = int(named[1])
    if number in (errno.ENOSPC, errno.EDQUOT):
        return ADVICE[number]
    if isinstance(error, OSError) and error.filename is not None and not _is_near(Path(str(error.filename)), path):
        return None  # a file elsewhere, which the block read
    if number is None and not isinstance(error, OSError) and _is_full(path):
        return FULL  # torch says "file write failed"
    return None if number is None else ADVICE.get(number)


def _is_near(file: Path, path: Path) -> bool:
    """Whether a file is in the folder of a path, or one of the folders above it."""
    folder = path.absolute().parent
    return file.absolute().is_relative_to(folder) or folder.is_relative_to(file.absolute())


def _is_full(path: Path) -> bool:
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), None)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False
