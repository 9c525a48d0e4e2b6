"""Reads many recordings in several processes and makes their frames."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.datasets.folders import Span
from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions, Recording, read_recording
from neuromoco.events.recording import NOTHING_ODD, Oddities
from neuromoco.frames import recording_frames
from neuromoco.support.pool import Lost, map_in_processes

LARGEST_COUNT = np.iinfo(np.uint16).max
MOST_PROCESSES = 16
BYTES_PER_PROCESS = 256 << 20  # read in the second that a process takes to start


class FileJob(NamedTuple):
    """A file with R recordings to read."""

    path: Path
    rows: tuple[int, ...]  # their positions in the set
    spans: tuple[Span | None, ...]  # R parts of the file; None is the whole file
    options: ReadOptions
    frames: FrameConfig


class FileFrames(NamedTuple):
    """The R recordings of a file as frames; none if there is a problem."""

    rows: tuple[int, ...]  # as in `FileJob`
    frames: list[NDArray[np.unsignedinteger[Any]]]  # [T, P, H, W], uint8 if the counts allow, else uint16
    facts: NDArray[np.int64]  # [R, 4]: events, microseconds, rows and columns of the sensor
    problem: str | None = None  # why the file cannot be read
    oddities: Oddities = NOTHING_ODD  # what was done to the events to read them


def make_frames(jobs: Sequence[FileJob]) -> Iterator[FileFrames]:
    """Yields the frames of files in the order of the jobs; many files are read by several processes.

    A file that ends its process has a problem; the others are read.
    """
    work = sum(job.path.stat().st_size for job in jobs)
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(jobs), work // BYTES_PER_PROCESS)
    if processes < 2:
        yield from map(read_frames, jobs)
        return
    for job, result in zip(jobs, map_in_processes(read_frames, jobs, processes), strict=True):
        if isinstance(result, Lost):
            result = _refused(job, f"{job.path}: {result.reason}")
        yield result


def read_frames(job: FileJob) -> FileFrames:
    """Reads a file once and makes the frames of all its recordings."""
    frames: list[NDArray[np.unsignedinteger[Any]]] = []
    facts: list[tuple[int, ...]] = []
    try:
        whole = read_recording(job.path, options=job.options)
        for span in job.spans:
            recording = whole if span is None else cut(whole, span)
            if span is not None and not len(recording):
                raise EventFileError(f"{job.path}: holds no events from {span[0]} to {span[1]} us")
            counts = recording_frames(recording, job.frames)
            largest = int(counts.max())
            if largest > LARGEST_COUNT:
                raise EventFileError(f"{job.path}: {largest} events in one pixel and slice; use more steps")
            frames.append(counts.astype(np.uint8 if largest <= np.iinfo(np.uint8).max else np.uint16))
            facts.append((len(recording), recording.duration, recording.height, recording.width))
    except EventFileError as error:
        return _refused(job, str(error))
    return FileFrames(job.rows, frames, np.array(facts, np.int64), oddities=whole.oddities)


def _refused(job: FileJob, problem: str) -> FileFrames:
    return FileFrames(job.rows, [], np.empty((0, 4), np.int64), problem)


def cut(recording: Recording, span: Span) -> Recording:
    """The events within a span of time."""
    inside = slice(*np.searchsorted(recording.t, span))
    return dataclasses.replace(recording, **{name: getattr(recording, name)[inside] for name in ("t", "x", "y", "p")})
