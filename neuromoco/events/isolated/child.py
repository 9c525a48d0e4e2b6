"""The process that reads files for another one, within limits of time and memory.

Requests are lines of JSON on the standard input, answers are lines of JSON on what was the standard output, followed by
the bytes of the columns that they announce. See `neuromoco.events.isolated.session`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from neuromoco.errors import ConfigError, EventFileError, MissingPackageError
from neuromoco.events.options import ReadOptions
from neuromoco.events.reader import FORMATS
from neuromoco.events.stream import Columns, CutError, EventStream, reason_of

MEMORY = 1 << 30  # bytes beyond those in use before the first file
# Of computing, for one answer: so much, and so much for each megabyte of the file. BZip2 unpacks 3 MB in a second.
SECONDS, SECONDS_PER_MB, MOST_SECONDS = 1.0, 2.0, 60.0
WAITING = 10  # times as long, if it waits for the disk
KINDS = (ConfigError, MissingPackageError, CutError, EventFileError)


class Reading:
    """A file that is open, or was and is opened again in a new process."""

    def __init__(self, request: dict[str, Any]) -> None:
        options = request["options"]
        for some in filter(None, (options, options["defaults"])):
            some["sensor"] = some["sensor"] and tuple(some["sensor"])
        options["defaults"] = options["defaults"] and ReadOptions(**options["defaults"])
        self.stream: EventStream = FORMATS[request["format"]].open(Path(request["path"]), ReadOptions(**options))
        self._pieces: Iterator[Columns] = iter(self.stream.pieces)
        self._next = 0
        self._ahead: list[Columns | Exception | None] = []  # the next piece, if it was read already

    def piece(self, number: int) -> Columns | None:
        """A piece that was not asked for yet; None after the last one."""
        for _ in range(self._next, number):  # the process before this one sent them
            next(self._pieces)
        self._next = number + 1
        piece = self._ahead.pop() if self._ahead else next(self._pieces, None)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def read_ahead(self) -> None:
        """Reads the next piece while the parent is busy with the last one."""
        try:
            self._ahead.append(next(self._pieces, None))
        except Exception as error:
            self._ahead.append(error)


def main() -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:  # codecs print complaints
        os.dup2(nowhere.fileno(), 1)
    for number in (signal.SIGPROF, signal.SIGALRM):  # the parent may ignore them
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGPROF, signal.SIGALRM))
    for name in ("h5py", "hdf5plugin"):
        with contextlib.suppress(ImportError):
            __import__(name)
    _limit()
    answers.write(b"ready\n")
    answers.flush()
    open_files: dict[int, Reading] = {}
    with contextlib.suppress(BrokenPipeError):  # the parent has ended
        for line in sys.stdin.buffer:
            request = json.loads(line)
            for stream in request["closed"]:
                open_files.pop(stream, None)
            if "stream" not in request:
                continue
            _preload(request)
            with _limited(Path(request["path"])):
                header, columns = _answer(request, open_files)
            _send(answers, header, columns)
            if columns is not None:
                with _limited(Path(request["path"])):
                    open_files[request["stream"]].read_ahead()


def _preload(request: dict[str, Any]) -> None:
    """Imports what only some formats need, at no cost to the time of their files."""
    if request.get("format") == "mat":
        with contextlib.suppress(ImportError):
            __import__("scipy.io")


@contextlib.contextmanager
def _limited(path: Path) -> Iterator[None]:
    """Lets the kernel end this process if the block takes too long."""
    size = path.stat().st_size if path.is_file() else 0
    seconds = min(SECONDS + SECONDS_PER_MB * size / 1e6, MOST_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(request: dict[str, Any], open_files: dict[int, Reading]) -> tuple[dict[str, Any], Columns | None]:
    try:
        reading = open_files.get(request["stream"])
        if reading is None:
            reading = open_files[request["stream"]] = Reading(request)
        if request["piece"] is None:
            stream = reading.stream
            return {
                "source": stream.source,
                "width": stream.width,
                "height": stream.height,
                "parts": stream.parts,
            }, None
        piece = reading.piece(request["piece"])
        if piece is None:
            return {}, None
        columns = Columns(*map(np.ascontiguousarray, piece))
        return {"columns": [(column.dtype.str, len(column)) for column in columns]}, columns
    except KINDS as error:
        kind = next(kind for kind in KINDS if isinstance(error, kind))
        whole = error.whole if isinstance(error, CutError) else None
        return {"error": kind.__name__, "text": str(error), "whole": whole}, None
    except OSError as error:
        return {"error": "OSError", "number": error.errno or 0, "text": error.strerror or str(error)}, None
    except Exception as error:  # whatever a damaged file makes a library raise
        return {"error": "EventFileError", "text": f"cut or damaged ({reason_of(error)})"}, None


def _send(answers: BinaryIO, header: dict[str, Any], columns: Columns | None) -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    for column in columns or ():
        answers.write(column.data)
    answers.flush()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write events to the disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nor has this process anything to write
    status = Path("/proc/self/statm")
    if status.exists():
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = int(status.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (allowed if most < 0 else min(allowed, most), most))
