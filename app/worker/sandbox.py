"""Analyses in separate processes: a file that hangs, crashes or eats memory ends a worker and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from multiprocessing import get_context
from queue import Queue
from typing import Any

from neuromoco.app.worker.analysis import Analysis, AnalysisRequest
from neuromoco.app.worker.process import work
from neuromoco.errors import EventFileError, NeuromocoError

SECONDS = 20.0  # longest time for one file
START_SECONDS = 60.0  # longest time until a worker is ready for its first file
END_SECONDS = 5.0  # until the exit code of a worker that closed its pipe is known
STOP_SECONDS = 2.0  # until a worker stops whose lines nobody takes any more
MEMORY = 1 << 30  # bytes beyond what a worker uses when it starts

# From version 1.29 on, ONNX Runtime reports its use to its vendor and keeps a file for that in the temporary folder.
# It reads this variable when it is loaded; workers inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Workers whose matrix products take every core wait for each other: on a busy machine, twenty times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


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
        self._workers = [Worker(warm, memory) for _ in range(workers)]
        self._idle: Queue[Worker] = Queue()
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
                raise self.failure(request, answer)
        raise NotAnalysedError(f"{request.name}: not analysed: its worker was killed twice; try again later")

    def lines(self, request: AnalysisRequest) -> Lines:
        """The lines of all windows of a file; `close` them."""
        return Lines(self, request, self._seconds)

    def ready(self) -> int:
        """How many workers can take a file at once, or are at one."""
        return sum(worker.ready for worker in self._workers)

    def _ask(self, request: AnalysisRequest) -> Any:
        worker = self.take()
        answer: Any = None
        try:
            worker.begin(request)
            answer = worker.receive(self._seconds)
        finally:
            self.give_back(worker, answer)
        return answer

    def take(self) -> Worker:
        """A worker that is idle; waits for one."""
        worker = self._idle.get()
        try:
            if not worker.alive:  # it was killed while idle: no fault of this file
                self._restart(worker)
        except BaseException:
            self._idle.put(worker)
            raise
        return worker

    def give_back(self, worker: Worker, answer: Any) -> None:
        """Makes a worker idle, after its last answer; one that ended, or does not answer, is replaced."""
        try:
            if answer is None or isinstance(answer, int):
                self._restart(worker)
        finally:
            self._idle.put(worker)

    def failure(self, request: AnalysisRequest, code: int | None) -> EventFileError:
        """The error of a file whose worker ended with an exit code, or took too long."""
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

    def _restart(self, worker: Worker) -> None:
        with self._lock:  # otherwise a worker could start after `close`
            if self._closed:
                raise NotAnalysedError("not analysed: the program is ending")
            worker.end()
            worker.start()


class Lines:
    """The lines of all windows of a file, as its worker sends them.

    `next` and `close` may be called from several threads.
    """

    def __init__(self, sandbox: Sandbox, request: AnalysisRequest, seconds: float) -> None:
        self._sandbox, self._request, self._seconds = sandbox, request, seconds
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._end = 0.0
        self._given = self._closed = False

    def next(self) -> list[dict[str, Any]] | None:
        """The next lines; None after the last.

        Raises:
            NeuromocoError: as `Sandbox.analyse`; lines that came before are right.
        """
        with self._lock:
            for _ in range(2):
                if self._closed:
                    return None
                worker = self._worker or self._begin()
                part = worker.receive(self._end - time.monotonic())
                if isinstance(part, list) and part:
                    self._given = True
                    return part
                self._release(part)
                if isinstance(part, NeuromocoError):
                    raise part
                if part == []:
                    self._closed = True
                    return None
                if part not in FROM_OUTSIDE:
                    raise self._sandbox.failure(self._request, part)
                if self._given:
                    break
            raise NotAnalysedError(f"{self._request.name}: not analysed: its worker was killed; try again later")

    def close(self) -> None:
        """Frees the worker."""
        self._closed = True
        if (worker := self._worker) is not None:
            worker.stop()  # so that a `next` in another thread ends
        with self._lock:
            if self._worker is None:
                return
            end, part = time.monotonic() + STOP_SECONDS, [True]
            while isinstance(part, list) and part:
                part = self._worker.receive(end - time.monotonic())
            self._release(part)

    def _begin(self) -> Worker:
        worker = self._sandbox.take()
        worker.begin(self._request)
        self._worker, self._end = worker, time.monotonic() + self._seconds
        if self._closed:
            worker.stop()
        return worker

    def _release(self, part: Any) -> None:
        assert self._worker is not None
        worker, self._worker = self._worker, None
        self._sandbox.give_back(worker, part)


class Worker:
    """A process and the pipe to it."""

    def __init__(self, warm: AnalysisRequest | None, memory: int) -> None:
        self._warm, self._memory = warm, memory

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def ready(self) -> bool:
        """Whether it answered its warm request, or has a request."""
        with contextlib.suppress(OSError):  # it is replaced in this moment
            return self.alive and (self._ready or self._pipe.poll())
        return False

    def start(self) -> None:
        """Starts the process; the pipe to the previous one closes."""
        context = get_context("spawn")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(target=work, args=(remote, self._warm, self._memory), daemon=True)
        self._ready = False
        self._process.start()
        remote.close()

    def begin(self, request: AnalysisRequest) -> None:
        """Sends a request, once the process is ready; what goes wrong is told by `receive`."""
        with contextlib.suppress(EOFError, OSError):
            if not self._ready:
                self._ready = self._pipe.poll(START_SECONDS) and self._pipe.recv()
            self._pipe.send(request)

    def receive(self, seconds: float) -> Any:
        """What the process sends next; the exit code of one that ended; None if it took too long.

        An `Analysis` or an error is the last; lists of lines end with an empty list.
        """
        try:
            return self._pipe.recv() if self._pipe.poll(max(0.0, seconds)) else None
        except (EOFError, OSError):
            self._process.join(END_SECONDS)
            return self._process.exitcode

    def stop(self) -> None:
        """Asks for no more lines."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)

    def end(self) -> None:
        """Kills the process. The pipe stays open: a thread that waits at it must see the process end."""
        self._process.kill()
        self._process.join()
