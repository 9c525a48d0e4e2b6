"""Analyses in processes of their own: a file that hangs, crashes or eats memory ends a worker and nothing else."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue

from neuromoco.app.worker.analysis import Analysis, Analyst, Request
from neuromoco.errors import CheckpointError, ConfigError, EventFileError, MissingPackageError, NeuromocoError

SECONDS = 20.0  # the longest that a file may take
START_SECONDS = 60.0  # the longest that a worker may take to be ready for its first
MEMORY = 1 << 30  # bytes beyond what a worker begins with

# From 1.29 on ONNX Runtime reports its use to its maker, and keeps a file in the temporary folder for that; it looks
# here when it is loaded. Workers inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


class GivenUpError(EventFileError):
    """A file that took more time or memory than is allowed."""


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
        self._seconds, self._memory = seconds, memory
        self._workers = [_Worker(warm, memory) for _ in range(workers)]
        self._idle: Queue[_Worker] = Queue()
        self._lock = threading.Lock()
        self._closed = False
        for worker in self._workers:
            worker.start()
            self._idle.put(worker)

    def analyse(self, request: Request) -> Analysis:
        """The analysis of a file.

        Raises:
            GivenUpError: over a limit.
            EventFileError: not readable.
            NeuromocoError: what else `Analyst.analyse` raises; or `close` was called meanwhile.
        """
        worker = self._idle.get()
        try:
            if not worker.alive:  # it was killed while it had nothing to do: no fault of this file
                self._renew(worker)
            answer = worker.ask(request, self._seconds)
            if answer is None:
                self._renew(worker)
        finally:
            self._idle.put(worker)
        if answer is None:
            raise GivenUpError(
                f"{request.name}: took more than {self._seconds:.0f} s or {self._memory >> 20} MB, and was given up"
            )
        if isinstance(answer, NeuromocoError):
            raise answer
        return answer

    def close(self) -> None:
        """Ends all workers, whatever they do; callers that wait get an error."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.end()

    def _renew(self, worker: _Worker) -> None:
        with self._lock:  # or a worker could be started behind the back of `close`
            if self._closed:
                raise NeuromocoError("not analysed: the program is ending")
            worker.end()
            worker.start()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, warm: Request | None, memory: int) -> None:
        self._warm, self._memory = warm, memory

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def start(self) -> None:
        """Starts the process; the pipe of the one before it is closed."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._warm, self._memory), daemon=True)
        self._ready = False
        self._process.start()
        theirs.close()

    def ask(self, request: Request, seconds: float) -> Analysis | NeuromocoError | None:
        """An answer; None if the worker died or took too long. Its start does not count."""
        with contextlib.suppress(EOFError, OSError):
            if not self._ready:
                self._ready = self._pipe.poll(START_SECONDS) and self._pipe.recv()
            self._pipe.send(request)
            if self._pipe.poll(seconds):
                answer: Analysis | NeuromocoError = self._pipe.recv()
                return answer
        return None

    def end(self) -> None:
        """Ends it, whatever it does. The pipe stays: another thread may be waiting at it, and sees its end."""
        self._process.kill()
        self._process.join()


def _work(pipe: Connection, warm: Request | None, memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash writes no visitor's events to the disk
    analyst, ready = Analyst(), set()
    if warm is not None:
        _prepare(analyst, warm)
        ready.add((warm.model.name, warm.backend))
    _limit(memory)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        pipe.send(True)
        while True:
            request: Request = pipe.recv()
            if warm is not None and (request.model.name, request.backend) not in ready:
                # Libraries and models are ours, and may be larger than what a file is allowed: torch is.
                _limit(None)
                _prepare(analyst, replace(warm, model=request.model, backend=request.backend))
                ready.add((request.model.name, request.backend))
                _limit(memory)
            pipe.send(_answer(analyst, request))


def _prepare(analyst: Analyst, warm: Request) -> None:
    with contextlib.suppress(NeuromocoError):
        analyst.analyse(warm)


def _answer(analyst: Analyst, request: Request) -> Analysis | NeuromocoError:
    try:
        return analyst.analyse(request)
    except NeuromocoError as error:
        # A subclass whose constructor takes more than a message would not survive the pipe.
        kinds = (EventFileError, ConfigError, CheckpointError, MissingPackageError, NeuromocoError)
        return next(kind for kind in kinds if isinstance(error, kind))(str(error))
    except MemoryError:
        os._exit(1)  # what is left of it cannot be trusted
    except Exception as error:  # a defect of ours: the visitor is told, the worker lives
        return NeuromocoError(f"{request.name}: something went wrong ({type(error).__name__})")


def _limit(memory: int | None) -> None:
    """Allows so many bytes more than are in use now, or any."""
    status = Path("/proc/self/statm")
    if status.exists():
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = most if memory is None else int(status.read_text().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (allowed if most < 0 else min(allowed, most), most))
