"""Analyses in processes of their own: a file that hangs, crashes or eats memory ends a worker and nothing else."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Any

from neuromoco.app.analysis import Analysis, Analyst, Request
from neuromoco.errors import EventFileError, NeuromocoError

SECONDS = 20.0  # the longest that a file may take
MEMORY = 1 << 30  # bytes beyond what a worker begins with


class Sandbox:
    """A few workers, each of which takes one file at a time. Callers wait their turn.

    Args:
        workers: how many.
        warm: a request that each of them does first, so that the first visitor does not wait for imports.
        seconds, memory: limits of a file.
    """

    def __init__(
        self, workers: int = 2, warm: Request | None = None, seconds: float = SECONDS, memory: int = MEMORY
    ) -> None:
        self._seconds, self._memory, self._warm = seconds, memory, warm
        self._idle: Queue[_Worker] = Queue()
        self._closed = False
        for _ in range(workers):
            self._idle.put(_Worker(self._warm, self._memory))

    def analyse(self, request: Request) -> Analysis:
        """The analysis of a file.

        Raises:
            EventFileError: not readable, or over a limit.
            NeuromocoError: what else `Analyst.analyse` raises.
        """
        worker = self._idle.get()
        answer: Any = None
        try:
            answer = worker.ask(request, self._seconds)
        finally:
            if answer is None and not self._closed:
                worker.end()
                worker = _Worker(self._warm, self._memory)
            self._idle.put(worker)
        if answer is None:
            raise EventFileError(
                f"{request.name}: took more than {self._seconds:.0f} s or {self._memory >> 20} MB, and was given up"
            )
        if isinstance(answer, NeuromocoError):
            raise answer
        result: Analysis = answer
        return result

    def close(self) -> None:
        """Ends all workers."""
        self._closed = True
        while not self._idle.empty():
            self._idle.get().end()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, warm: Request | None, memory: int) -> None:
        self._pipe, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_work, args=(theirs, warm, memory), daemon=True)
        self._process.start()
        theirs.close()
        self._lock = threading.Lock()

    def ask(self, request: Request, seconds: float) -> Analysis | NeuromocoError | None:
        """An answer; None if the worker died or took too long."""
        with self._lock:
            try:
                self._pipe.send(request)
                return self._pipe.recv() if self._pipe.poll(seconds) else None  # type: ignore[no-any-return]
            except (EOFError, OSError):
                return None

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _work(pipe: Connection, warm: Request | None, memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    analyst = Analyst()
    if warm is not None:
        with contextlib.suppress(NeuromocoError):
            analyst.analyse(warm)
    _limit(memory)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            answer: Any = analyst.analyse(request)
        except NeuromocoError as error:
            answer = error
        except MemoryError:
            os._exit(1)  # what is left of it cannot be trusted
        except Exception as error:  # a defect of ours: the visitor is told, the worker lives
            answer = NeuromocoError(f"{request.name}: something went wrong ({type(error).__name__})")
        pipe.send(answer)


def _limit(memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        size = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
