"""Frames of many recordings, read by several processes at once."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.datasets.folders import Span
from neuromoco.errors import EventFileError, NeuromocoError
from neuromoco.events import ReadOptions, Recording, read_recording
from neuromoco.frames import recording_frames

LARGEST_COUNT = np.iinfo(np.uint16).max
MOST_PROCESSES = 16
# A process takes a second to start, in which so much is read.
BYTES_A_PROCESS = 256 << 20
AHEAD = 3  # files that wait or are read, for each process: bounds the memory


class Task(NamedTuple):
    """One file to read.

    Attributes:
        path: the file.
        rows: where its R recordings stand in the set.
        spans: its R parts, or None for a whole file.
        options: what it does not say of itself.
        frames: what to make of it.
    """

    path: Path
    rows: tuple[int, ...]
    spans: tuple[Span | None, ...]
    options: ReadOptions
    frames: FrameConfig


class Made(NamedTuple):
    """What became of a file.

    Attributes:
        rows: see `Task`.
        frames: R arrays [T, P, H, W], uint8 where the counts allow, else uint16; none if there is a problem.
        facts: int64 [R, 4]: events, microseconds, rows and columns of the sensor.
        problem: why it cannot be read.
    """

    rows: tuple[int, ...]
    frames: list[NDArray[np.unsignedinteger[Any]]]
    facts: NDArray[np.int64]
    problem: str | None = None


def make_frames(tasks: Sequence[Task]) -> Iterator[Made]:
    """Reads files, several at once if they are many, and yields what became of each in the order of the tasks.

    Raises:
        NeuromocoError: a process was killed.
    """
    work = sum(task.path.stat().st_size for task in tasks)
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(tasks), work // BYTES_A_PROCESS)
    if processes < 2:
        yield from map(make, tasks)
        return
    # Spawned, not forked: whoever trains has threads, and they do not survive a fork.
    with ProcessPoolExecutor(processes, get_context("spawn"), _start) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(make, task))
                if len(waiting) >= AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise NeuromocoError(
                "a process that read recordings was killed, for want of memory? What it had done is kept: run it again"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def make(task: Task) -> Made:
    """Reads one file, once for all its recordings."""
    frames: list[NDArray[np.unsignedinteger[Any]]] = []
    facts: list[tuple[int, ...]] = []
    try:
        whole = read_recording(task.path, options=task.options)
        for span in task.spans:
            recording = whole if span is None else cut(whole, span)
            if span is not None and not len(recording):
                raise EventFileError(f"{task.path}: holds no events from {span[0]} to {span[1]} us")
            counts = recording_frames(recording, task.frames)
            largest = int(counts.max())
            if largest > LARGEST_COUNT:
                raise EventFileError(f"{task.path}: {largest} events in one pixel and slice; take more steps")
            frames.append(counts.astype(np.uint8 if largest <= np.iinfo(np.uint8).max else np.uint16))
            facts.append((len(recording), recording.duration, recording.height, recording.width))
    except EventFileError as error:
        return Made(task.rows, [], np.empty((0, 4), np.int64), str(error))
    return Made(task.rows, frames, np.array(facts, np.int64))


def cut(recording: Recording, span: Span) -> Recording:
    """The events of a part of a recording."""
    inside = slice(*np.searchsorted(recording.t, span))
    return dataclasses.replace(
        recording, t=recording.t[inside], x=recording.x[inside], y=recording.y[inside], p=recording.p[inside]
    )


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
