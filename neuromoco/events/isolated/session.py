"""The side of the process that reads isolated files which asks, and survives.

Some formats are decoded by C libraries that a damaged file makes crash, hang, or fill the memory: HDF5 with its
filters, and the decoder of AEDAT4. One child process reads all such files of this process: it starts with the first of
them, is used again, and is replaced when it has ended. The kernel ends it when an answer takes too long or this process
is gone; nothing that it sends is unpickled. Forked processes start children of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import ConfigError, EventFileError, MissingPackageError, NeuromocoError
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import Columns, CutError, EventStream
from neuromoco.support.ended import FROM_OUTSIDE, reason

CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from neuromoco.events.isolated.child import main; main()"
)
ERRORS: dict[str, type[NeuromocoError]] = {
    kind.__name__: kind for kind in (ConfigError, EventFileError, MissingPackageError)
}
LARGEST_COLUMN = 1 << 30  # bytes
PIPE_BYTES = 1 << 20
TOO_LONG = (-signal.SIGPROF, -signal.SIGALRM)  # exit statuses, by the child's own timers


class _EndedError(Exception):
    """The child ended before it answered."""


class _Child:
    """A running child."""

    def __init__(self) -> None:
        path = [entry or str(Path.cwd()) for entry in sys.path]
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-X", f"utf8={sys.flags.utf8_mode}", "-c", CODE, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **single},
            start_new_session=True,  # Ctrl-C is for this process
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: Any = self._process.stdin
        self._answers: Any = self._process.stdout
        with contextlib.suppress(ImportError, AttributeError, OSError):  # Linux; it is only faster
            import fcntl

            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        if self._answers.readline() != b"ready\n":
            raise NeuromocoError(f"the process that reads such files does not start (it ended with {self.end()})")

    def tell(self, request: dict[str, Any]) -> None:
        """Sends a request."""
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise _EndedError from None

    def answer(self) -> tuple[dict[str, Any], Columns | None]:
        """What the child answers, and the columns that it announces."""
        line = self._answers.readline()
        try:
            header = json.loads(line)
            columns = [self._column(*announced) for announced in header.get("columns", ())]
            return header, Columns(*columns) if columns else None
        except (ValueError, TypeError, AttributeError):  # nothing, or what only a child writes that is beside itself
            raise _EndedError from None

    def _column(self, kind: str, count: int) -> NDArray[Any]:
        dtype = np.dtype(kind)
        if dtype.kind not in "iufb" or not 0 <= count * dtype.itemsize <= LARGEST_COLUMN:
            raise _EndedError
        column = np.empty(count, dtype)
        left = column.view(np.uint8).data
        while left:
            size = self._answers.readinto(left)
            if not size:
                raise _EndedError
            left = left[size:]
        return column

    def end(self) -> int:
        """Ends the process, if it has not ended by itself, and returns its exit status."""
        # One that has ended by itself keeps its own status.
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()
        return self._process.wait()

    def forget(self) -> None:
        """Closes this process's copies of the pipes of a child that belongs to the process it was forked from."""
        for pipe in (self._requests, self._answers):
            pipe.detach().close()
        self._process.returncode = 0  # it is not for this process to wait for


class Session:
    """The child of this process, and requests to it: one at a time, from any thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closed: list[int] = []  # streams that the child need not keep open
        self._ahead: int | None = None  # the stream of which the child reads the next piece, unasked

    def open(self, format: str, path: Path, options: ReadOptions) -> EventStream:
        """Opens a file in the child; the pieces come from there.

        Raises:
            EventFileError: it is not readable, or the child crashed, took too long or too much memory.
        """
        pieces = _Pieces(
            self,
            {
                "stream": next(self._numbers),
                "format": format,
                "path": str(path.absolute()),
                "options": dataclasses.asdict(options),
            },
        )
        facts = pieces.facts()
        return EventStream(facts["source"], pieces, facts["width"], facts["height"], parts=facts["parts"])

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], Columns | None]:
        """The answer to a request; the child's errors are raised here."""
        with self._lock:
            for last in (False, True):
                innocent = self._ahead not in (None, request["stream"])
                try:
                    header, columns = self._exchange(request)
                    break
                except _EndedError:
                    ended = self._end()
                    if last or not (innocent or ended in FROM_OUTSIDE):
                        raise EventFileError(_blame(ended)) from None
                except BaseException:  # Ctrl-C, and the answer is still to come
                    self._end()
                    raise
        if header.get("error") == "OSError":
            raise OSError(header["number"], header["text"])
        if header.get("error") == CutError.__name__:
            raise CutError(header["text"], header["whole"])
        if "error" in header:
            raise ERRORS[header["error"]](header["text"])
        return header, columns

    def _exchange(self, request: dict[str, Any]) -> tuple[dict[str, Any], Columns | None]:
        if self._child is None:
            self._child = _Child()
        self._child.tell({**request, "closed": self._to_close()})
        header, columns = self._child.answer()
        self._ahead = request["stream"] if columns else None
        return header, columns

    def close(self, stream: int) -> None:
        """Lets the child close a file, at once if nothing else is asked of it now."""
        self._closed.append(stream)
        if self._child and self._lock.acquire(blocking=False):
            try:
                if self._child:
                    self._child.tell({"closed": self._to_close()})
            except _EndedError:
                self._end()
            finally:
                self._lock.release()

    def _to_close(self) -> list[int]:
        closed, self._closed = self._closed, []
        return closed

    def _end(self) -> int:
        child, self._child, self._ahead = self._child, None, None
        return child.end() if child else 0

    def end(self) -> None:
        """Ends the child, if there is one."""
        self._end()

    def forked(self) -> None:
        """Leaves the child to the process that this one was forked from."""
        if self._child:
            self._child.forget()
        self._reset()


class _Pieces:
    """The pieces of a stream, from the child."""

    def __init__(self, session: Session, request: dict[str, Any]) -> None:
        self._session, self._request = session, request
        self._next = 0

    def facts(self) -> dict[str, Any]:
        """Format and sensor."""
        return self._session.ask({**self._request, "piece": None})[0]

    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> Columns:
        _, columns = self._session.ask({**self._request, "piece": self._next})
        if columns is None:
            raise StopIteration
        self._next += 1
        return columns

    def __del__(self) -> None:
        self._session.close(self._request["stream"])


def _blame(ended: int) -> str:
    """Why a file was not read, given the exit status of the child."""
    if ended in TOO_LONG:
        return "damaged, or made to do harm: reading it took too long and was stopped"
    return reason(ended)


SESSION = Session()
atexit.register(SESSION.end)
os.register_at_fork(after_in_child=SESSION.forked)
