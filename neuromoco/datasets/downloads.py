"""Downloads published sets with tonic: the extra `datasets`, under GPL-3.0, not a part of this package.

$NEUROMOCO_DATA/.n-mnist.download/train.zip   in progress; an archive with the right MD5 is not downloaded again
$NEUROMOCO_DATA/n-mnist                       missing, or complete as `--data` needs it
"""

from __future__ import annotations

import contextlib
import errno
import io
import shutil
import socket
import sys
import zipfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from neuromoco.datasets.named import DIGITS, SETS, manual_steps, set_folder
from neuromoco.errors import ConfigError, DiskError, NeuromocoError
from neuromoco.support.console import console
from neuromoco.support.disk_errors import disk_errors
from neuromoco.support.extras import need
from neuromoco.support.files import check_disk_space, locked, writing_folder

TIMEOUT_S = 60.0
OTHER_DISK = "set NEUROMOCO_DATA to a folder on another disk"


class Archive(NamedTuple):
    """A file to download, with its MD5 according to tonic."""

    url: str
    filename: str
    md5: str


def download(name: str) -> bool:
    """Downloads a set of `named.SETS` to where `--data` looks for it; returns False if it exists already.

    Raises:
        ConfigError: no such set, its folder holds something else, or the disk is full.
        MissingExtraError: tonic is not installed.
        NeuromocoError: a download failed; complete archives are kept.
    """
    if name == DIGITS:
        raise ConfigError(f"{DIGITS}: needs no download; --data {DIGITS} records them on first use")
    if name not in SETS:
        raise ConfigError(f"{name}: is not a data set to download; give one of {', '.join(SETS)}")
    folder = set_folder(name)
    if _exists(name, folder):
        return False
    need("datasets", f"neuromoco download {name}")
    archives = folder.with_name(f".{folder.name}.download")
    with locked(archives / ".lock"):
        if _exists(name, folder):  # another process had the lock
            return False
        try:
            with disk_errors(folder.parent):
                _download(name, folder, archives)
        except DiskError as error:
            raise ConfigError(f"{error}, or {OTHER_DISK}") from error
        shutil.rmtree(archives)
    return True


def _exists(name: str, folder: Path) -> bool:
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        _check(name, folder)
    except ConfigError as error:
        advice = f"move {folder} away and download it again, or {manual_steps(name)}"
        raise ConfigError(f"{name}: {error}; {advice}") from error
    return True


def _check(name: str, folder: Path) -> None:
    SETS[name].listing(folder, "train")
    SETS[name].listing(folder, "test")


def _download(name: str, folder: Path, downloads: Path) -> None:
    archives = _archives(name)
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(TIMEOUT_S)  # tonic sets none
        _fetch(archives, downloads)
    except _DownloadError as error:
        raise NeuromocoError(f"{name}: {error}; try again later, or {manual_steps(name)}") from error
    finally:
        socket.setdefaulttimeout(before)
    with writing_folder(folder) as part:
        for archive in archives:
            _unpack(downloads / archive.filename, part)
        for inner in sorted(part.glob("*.zip")):  # CIFAR10-DVS has one per class
            _unpack(inner, part)
            inner.unlink()
        try:
            _check(name, part)
        except ConfigError as error:
            problem = f"tonic's archives hold something else: {error}"
            raise NeuromocoError(f"{name}: {problem}; {manual_steps(name)}") from error


def _archives(name: str) -> list[Archive]:
    from tonic import datasets

    kind = getattr(datasets, SETS[name].tonic)
    if hasattr(kind, "train_url"):
        fields = ("url", "filename", "md5")
        return [Archive(*(getattr(kind, f"{part}_{field}") for field in fields)) for part in ("train", "test")]
    return [Archive(kind.url, kind.filename, kind.file_md5)]


class _DownloadError(Exception):
    """A download failed; the message names the address and the reason."""


def _fetch(archives: list[Archive], folder: Path) -> None:
    """Downloads missing archives if the disk has space for them and their content."""
    from tonic.download_utils import check_integrity

    missing = [archive for archive in archives if not check_integrity(str(folder / archive.filename), archive.md5)]
    lengths = {archive: _length(archive) for archive in missing}
    check_disk_space(folder, 2 * sum(lengths.values()), "the archives and their content take at least", OTHER_DISK)
    for archive, length in lengths.items():
        console.print(f"downloading {archive.url} ({length / 1e6:,.0f} MB)", markup=False, soft_wrap=True)
        _fetch_one(archive, folder / archive.filename, length)


def _length(archive: Archive) -> int:
    """Size in bytes according to the server, 0 if unknown; by GET, since signed addresses reject HEAD."""
    from tonic.download_utils import USER_AGENT

    try:
        with urlopen(Request(archive.url, headers={"User-Agent": USER_AGENT})) as response:
            return response.length or 0
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise _DownloadError(f"{archive.url}: {_reason(error)}") from error


def _fetch_one(archive: Archive, file: Path, length: int) -> None:
    from tonic.download_utils import download_url

    try:
        with _output_of_tonic():
            download_url(archive.url, str(file.parent), archive.filename, archive.md5)
    except (OSError, HTTPException, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        size = file.stat().st_size if file.exists() else 0
        file.unlink(missing_ok=True)
        if not isinstance(error, RuntimeError):
            problem = _reason(error)
        elif size < length:
            problem = f"ended after {size:,} of {length:,} bytes"
        else:
            problem = f"returned {size:,} bytes whose MD5 is not {archive.md5}"
        raise _DownloadError(f"{archive.url}: {problem}") from error


def _reason(error: Exception) -> str:
    return str(error.reason if type(error) is URLError else error)


def _unpack(archive: Path, folder: Path) -> None:
    from tonic.download_utils import extract_archive

    size = archive.stat().st_size
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as content:
            size = sum(member.file_size for member in content.infolist())
    check_disk_space(folder, size, f"the content of {archive.name} takes", OTHER_DISK)
    console.print(f"unpacking {archive.name}", markup=False, soft_wrap=True)
    extract_archive(str(archive), str(folder))


@contextlib.contextmanager
def _output_of_tonic() -> Iterator[None]:
    """Hides what tonic prints, and shows its progress bar only on a terminal."""
    errors = sys.stderr if console.is_terminal and not console.quiet else io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        yield
