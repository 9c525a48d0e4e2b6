"""What runs in a worker: one analysis after another, each within a limit of memory."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from neuromoco.app.worker.analysis import Analyser, Analysis, AnalysisRequest
from neuromoco.app.worker.windows import window_lines
from neuromoco.errors import CheckpointError, ConfigError, EventFileError, MissingPackageError, NeuromocoError
from neuromoco.installation import without_place

LINES_AT_ONCE, LINES_SECONDS = 32, 0.05  # that are collected before they are sent


def work(pipe: Connection, warm: AnalysisRequest | None, memory: int) -> None:
    """Answers requests from a pipe, with `memory` bytes for each file; runs the request `warm` first."""
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
            request: AnalysisRequest | None = pipe.recv()
            if request is None:  # to stop lines that have ended meanwhile
                continue
            prepare(request)
            pipe.send(answer(analyser, request, pipe))


def answer(analyser: Analyser, request: AnalysisRequest, pipe: Connection) -> Analysis | list[Any] | NeuromocoError:
    """What is sent last for a request: an analysis, an error, or an empty list after lines."""
    try:
        return _send_lines(analyser, request, pipe) if request.all_windows else analyser.analyse(request)
    except NeuromocoError as error:
        # A subclass whose constructor takes more than a message would not survive the pipe.
        kinds = (EventFileError, ConfigError, CheckpointError, MissingPackageError, NeuromocoError)
        return next(kind for kind in kinds if isinstance(error, kind))(without_place(str(error)))
    except MemoryError:
        os._exit(1)  # the state of this process cannot be trusted
    except Exception as error:  # a bug: the visitor gets a message, the worker lives on
        return NeuromocoError(f"{request.name}: something went wrong ({type(error).__name__})")


def _send_lines(analyser: Analyser, request: AnalysisRequest, pipe: Connection) -> list[Any]:
    """Sends lines as they come, until the parent wants no more; returns what ends them."""
    held, since = [], time.monotonic()
    for line in window_lines(analyser, request):
        if pipe.poll():
            pipe.recv()
            return []
        held.append(line)
        if len(held) == LINES_AT_ONCE or time.monotonic() - since > LINES_SECONDS:
            pipe.send(held)
            held, since = [], time.monotonic()
    if held:
        pipe.send(held)
    return []


def _limit(memory: int | None) -> None:
    """Allows `memory` bytes beyond those in use now; None removes the limit."""
    status = Path("/proc/self/statm")
    if status.exists():
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = most if memory is None else int(status.read_text().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (allowed if most < 0 else min(allowed, most), most))
