"""Published sets, fetched with the downloaders of tonic: the extra `datasets`, under GPL-3.0, no part of this package.

$NEUROMOCO_DATA/.n-mnist.download/train.zip   under way; an archive whose MD5 is right is not fetched again
$NEUROMOCO_DATA/n-mnist                       absent, or whole as `--data` wants it
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

from neuromoco.datasets.named import DIGITS, SETS, by_hand, set_folder
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.support.console import console
from neuromoco.support.extras import need
from neuromoco.support.files import locked, writing_folder

SILENCE_S = 60.0  # after which a server is given up
ROOM = "make room, or let NEUROMOCO_DATA name a folder on another disk"


class Archive(NamedTuple):
    """A file to download: its address, its name, and its MD5 as tonic knows it."""

    url: str
    filename: str
    md5: str


def download(name: str) -> bool:
    """Fetches a published set to where `--data` looks for it.

    Args:
        name: one of `named.SETS`.

    Returns:
        Whether it was fetched; False if it was there.

    Raises:
        ConfigError: no such set; another folder is in its place; the disk has no room.
        MissingExtraError: tonic is not installed.
        NeuromocoError: an address does not answer, or answers with something else. What was fetched is kept.
    """
    if name == DIGITS:
        raise ConfigError(f"{DIGITS}: needs no download; --data {DIGITS} records them on first use")
    if name not in SETS:
        raise ConfigError(f"{name}: is no data set to download; give one of {', '.join(SETS)}")
    folder = set_folder(name)
    if _is_there(name, folder):
        return False
    need("datasets", f"neuromoco download {name}")
    beside = folder.with_name(f".{folder.name}.download")
    with locked(beside / ".lock"):
        if _is_there(name, folder):  # another process had the lock
            return False
        try:
            _download(name, folder, beside)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ConfigError(f"{folder.parent}: the disk is full; {ROOM}") from error
        shutil.rmtree(beside)
    return True


def _is_there(name: str, folder: Path) -> bool:
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        _check(name, folder)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}; move {folder} away and download it again, or {by_hand(name)}") from error
    return True


def _check(name: str, folder: Path) -> None:
    SETS[name].listing(folder, "train")
    SETS[name].listing(folder, "test")


def _download(name: str, folder: Path, beside: Path) -> None:
    archives = _archives(name)
    try:
        with _given_up_in_silence():
            _fetch(archives, beside)
    except _FailedError as error:
        raise NeuromocoError(f"{name}: {error}; try again later, or {by_hand(name)}") from error
    with writing_folder(folder) as part:
        for archive in archives:
            _unpack(beside / archive.filename, part)
        for inner in sorted(part.glob("*.zip")):  # one a class, of CIFAR10-DVS
            _unpack(inner, part)
            inner.unlink()
        try:
            _check(name, part)
        except ConfigError as error:
            raise NeuromocoError(f"{name}: tonic's archives hold something else: {error}; {by_hand(name)}") from error


def _archives(name: str) -> list[Archive]:
    from tonic import datasets

    kind = getattr(datasets, SETS[name].tonic)
    if hasattr(kind, "train_url"):
        return [
            Archive(kind.train_url, kind.train_filename, kind.train_md5),
            Archive(kind.test_url, kind.test_filename, kind.test_md5),
        ]
    return [Archive(kind.url, kind.filename, kind.file_md5)]


class _FailedError(Exception):
    """Says of an address what is wrong with it."""


def _fetch(archives: list[Archive], folder: Path) -> None:
    """Downloads those that are not there yet, if the disk has room for all of them and what they hold."""
    from tonic.download_utils import check_integrity

    lengths = {
        archive: _length(archive)
        for archive in archives
        if not check_integrity(str(folder / archive.filename), archive.md5)
    }
    _want_room(folder, 2 * sum(lengths.values()), "the archives and what they hold take at least")
    for archive, length in lengths.items():
        console.print(f"downloading {archive.url} ({length / 1e6:,.0f} MB)", markup=False, soft_wrap=True)
        _fetch_one(archive, folder / archive.filename, length)


def _length(archive: Archive) -> int:
    """Bytes that a server promises, 0 if it does not say. By GET: addresses that are signed take nothing else."""
    from tonic.download_utils import USER_AGENT

    try:
        with urlopen(Request(archive.url, headers={"User-Agent": USER_AGENT})) as response:
            return response.length or 0
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise _FailedError(f"{archive.url}: {_words(error)}") from error


def _fetch_one(archive: Archive, file: Path, length: int) -> None:
    from tonic.download_utils import download_url

    try:
        with _output_of_tonic():
            download_url(archive.url, str(file.parent), archive.filename, archive.md5)
    except (OSError, HTTPException, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        got = file.stat().st_size if file.exists() else 0
        file.unlink(missing_ok=True)
        if not isinstance(error, RuntimeError):
            problem = _words(error)
        elif got < length:
            problem = f"broke off after {got:,} of {length:,} bytes"
        else:
            problem = f"gave {got:,} bytes whose MD5 is not {archive.md5}"
        raise _FailedError(f"{archive.url}: {problem}") from error


def _words(error: Exception) -> str:
    return str(error.reason if type(error) is URLError else error)


def _unpack(archive: Path, folder: Path) -> None:
    from tonic.download_utils import extract_archive

    wanted = archive.stat().st_size
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as inside:
            wanted = sum(member.file_size for member in inside.infolist())
    _want_room(folder, wanted, f"what {archive.name} holds takes")
    console.print(f"unpacking {archive.name}", markup=False, soft_wrap=True)
    extract_archive(str(archive), str(folder))


def _want_room(folder: Path, wanted: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise ConfigError(f"{folder.parent}: {what} {wanted / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; {ROOM}")


@contextlib.contextmanager
def _given_up_in_silence() -> Iterator[None]:
    """Tonic waits for a server for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _output_of_tonic() -> Iterator[None]:
    """Tonic prints, and draws a bar: on standard error, and only where a person sees it."""
    shown = console.is_terminal and not console.quiet
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(sys.stderr if shown else io.StringIO()):
        yield
