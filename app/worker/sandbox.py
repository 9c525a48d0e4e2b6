"""Analyses in separate processes: a file that hangs, crashes or eats memory ends a worker and nothing else."""

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

from neuromoco.app.worker.analysis import Analyser, Analysis, AnalysisRequest
from neuromoco.errors import CheckpointError, ConfigError, EventFileError, MissingPackageError, NeuromocoError
from neuromoco.installation import without_place

SECONDS = 20.0  # longest time for one file
START_SECONDS = 60.0  # longest time until a worker is ready for its first file
END_SECONDS = 5.0  # until the exit code of a worker that closed its pipe is known
MEMORY = 1 << 30  # bytes beyond what a worker uses when it starts

# From version 1.29 on, ONNX Runtime reports its use to its vendor and keeps a file for that in the temporary folder.
# It reads this variable when it is loaded; workers inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


# Ends that come from outside: the kernel out of memory, a service manager, a person.
FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGQUIT)


class OverLimitError(EventFileError):
    """A file took more time or memory than is allowed."""


class NotAnalysedError(NeuromocoError):
    """A file was not analysed for a reason that is not its own; the same request may succeed later."""


class Sandbox:
    """A few workers, each of which takes one file at a time. Callers wait their turn.

    Each worker runs the request `warm` first, so that the first visitor does not wait for imports. `seconds` and
    `memory` are limits for one file.
    """

    def __init__(
        self, workers: int = 2, warm: AnalysisRequest | None = None, seconds: float = SECONDS, memory: int = MEMORY
    ) -> None:
        self._seconds, self._memory = seconds, memory
        self._workers = [_Worker(warm, memory) for _ in range(workers)]
        self._idle: Queue[_Worker] = Queue()
        self._lock = threading.Lock()
        self._closed = False
        for worker in self._workers:
            worker.start()
            self._idle.put(worker)

    def analyse(self, request: AnalysisRequest) -> Analysis:
        """The analysis of a file. If something outside kills its worker, the file is tried once more.

        Raises:
            OverLimitError: more time or memory than is allowed.
            NotAnalysedError: its worker was killed twice, or `close` was called meanwhile.
            EventFileError: not readable.
            NeuromocoError: any other error of `Analyser.analyse`.
        """
        for _ in range(2):
            answer = self._ask(request)
            if isinstance(answer, NeuromocoError):
                raise answer
            if isinstance(answer, Analysis):
                return answer
            if answer not in FROM_OUTSIDE:
                raise self._failure(request, answer)
        raise NotAnalysedError(f"{request.name}: not analysed: its worker was killed twice; try again later")

    def _ask(self, request: AnalysisRequest) -> Analysis | NeuromocoError | int | None:
        worker = self._idle.get()
        try:
            if not worker.alive:  # it was killed while idle: no fault of this file
                self._restart(worker)
            answer = worker.ask(request, self._seconds)
            if answer is None or isinstance(answer, int):
                self._restart(worker)
            return answer
        finally:
            self._idle.put(worker)

    def _failure(self, request: AnalysisRequest, code: int | None) -> EventFileError:
        if code is not None and code < 0:
            what = signal.strsignal(-code) or f"signal {-code}"
            return EventFileError(f"{request.name}: cannot be read: a library crashed on it ({what.lower()})")
        limits = f"{self._seconds:.0f} s or {self._memory >> 20} MB"
        return OverLimitError(f"{request.name}: took more than {limits} and was stopped")

    def close(self) -> None:
        """Ends all workers, busy or not; callers that wait get an error."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.end()

    def _restart(self, worker: _Worker) -> None:
        with self._lock:  # otherwise a worker could start after `close`
            if self._closed:
                raise NotAnalysedError("not analysed: the program is ending")
            worker.end()
            worker.start()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, warm: AnalysisRequest | None, memory: int) -> None:
        self._warm, self._memory = warm, memory

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def start(self) -> None:
        """Starts the process; the pipe to the previous one closes."""
        context = get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=_work, args=(remote, self._warm, self._memory), daemon=True)
        self._ready = False
        self._process.start()
        remote.close()

    def ask(self, request: AnalysisRequest, seconds: float) -> Analysis | NeuromocoError | int | None:
        """The answer; the exit code of a worker that ended; None if it took too long. Its start does not count."""
        try:
            if not self._ready:
                self._ready = self._pipe.poll(START_SECONDS) and self._pipe.recv()
            self._pipe.send(request)
            if not self._pipe.poll(seconds):
                return None
            answer: Analysis | NeuromocoError = self._pipe.recv()
            return answer
        except (EOFError, OSError):
            self._process.join(END_SECONDS)
            return self._process.exitcode

    def end(self) -> None:
        """Kills the process. The pipe stays open: a thread that waits at it must see the process end."""
        self._process.kill()
        self._process.join()


def _work(pipe: Connection, warm: AnalysisRequest | None, memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write a visitor's events to the disk
    analyser, ready = Analyser(), set()

    def prepare(request: AnalysisRequest) -> None:
        # Libraries and models are trusted and may need more memory than a file is allowed: torch does.
        key = (request.model.name, request.backend)
        if warm is not None and key not in ready:
            _limit(None)
            with contextlib.suppress(NeuromocoError):
                analyser.analyse(replace(warm, model=request.model, backend=request.backend))
            ready.add(key)
            _limit(memory)

    _limit(memory)
    if warm is not None:
        prepare(warm)
    with contextlib.suppress(EOFError, OSError):  # the parent may have ended
        pipe.send(True)
        while True:
            request: AnalysisRequest = pipe.recv()
            prepare(request)
            pipe.send(_answer(analyser, request))


def _answer(analyser: Analyser, request: AnalysisRequest) -> Analysis | NeuromocoError:
    try:
        return analyser.analyse(request)
    except NeuromocoError as error:
        # A subclass whose constructor takes more than a message would not survive the pipe.
        kinds = (EventFileError, ConfigError, CheckpointError, MissingPackageError, NeuromocoError)
        return next(kind for kind in kinds if isinstance(error, kind))(without_place(str(error)))
    except MemoryError:
        os._exit(1)  # the state of this process cannot be trusted
    except Exception as error:  # a bug: the visitor gets a message, the worker lives on
        return NeuromocoError(f"{request.name}: something went wrong ({type(error).__name__})")


def _limit(memory: int | None) -> None:
    """Allows `memory` bytes beyond those in use now; None removes the limit."""
    status = Path("/proc/self/statm")
    if status.exists():
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = most if memory is None else int(status.read_text().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (allowed if most < 0 else min(allowed, most), most))
