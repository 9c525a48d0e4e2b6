"""Reads many recordings, in several processes, and makes their frames."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.config.frames import Crop
from neuromoco.datasets.folders import Listing, Span
from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions, Recording, read_recording
from neuromoco.events.recording import NOTHING_ODD, Oddities
from neuromoco.frames import filled_part_of, recording_frames
from neuromoco.support.pool import Lost, map_in_processes

Job = TypeVar("Job")
Result = TypeVar("Result")
LARGEST_COUNT = np.iinfo(np.uint16).max
MOST_PROCESSES = 16
BYTES_PER_PROCESS = 256 << 20  # read in the second that a process takes to start


class FileJob(NamedTuple):
    """A file with R recordings to read."""

    path: Path
    rows: tuple[int, ...]  # their positions in the set
    spans: tuple[Span | None, ...]  # R parts of the file; None is the whole file
    options: ReadOptions
    crop: Crop = None  # the part of the sensor that is used, see `Listing`; in pixels


class FrameJob(NamedTuple):
    """A file whose recordings become frames."""

    file: FileJob
    frames: FrameConfig


class FileFrames(NamedTuple):
    """The R recordings of a file as frames; none if there is a problem."""

    rows: tuple[int, ...]  # as in `FileJob`
    frames: list[NDArray[np.unsignedinteger[Any]]]  # [T, P, H, W], uint8 if the counts allow, else uint16
    facts: NDArray[np.int64]  # [R, 4]: events, microseconds, rows and columns of the sensor
    problem: str | None = None  # why the file cannot be read
    passing: bool = False  # whether the problem may be none of the file's, such as a lack of memory
    oddities: Oddities = NOTHING_ODD  # what was done to the events to read them


def file_jobs(listing: Listing, rows: Sequence[int]) -> list[FileJob]:
    """A job for each file that has recordings at these positions of a listing."""
    by_file = defaultdict(list)
    for row in rows:
        by_file[listing.files[row]].append(row)
    spans = listing.spans or (None,) * len(listing)
    return [
        FileJob(
            listing.root / file, tuple(members), tuple(spans[row] for row in members), listing.options, listing.crop
        )
        for file, members in by_file.items()
    ]


def recordings_of(job: FileJob) -> Iterator[Recording]:
    """Reads a file once and yields its recordings.

    Raises:
        EventFileError: the file cannot be read, or has no events in a part or in the crop.
    """
    whole = read_recording(job.path, options=job.options)
    for span in job.spans:
        recording = whole if span is None else cut(whole, span)
        if span is not None and not len(recording):
            times = f"; its times run from {whole.t[0]} to {whole.t[-1]}" if len(whole) else ""
            raise EventFileError(f"{job.path}: holds no events from {span[0]} to {span[1]} us{times}")
        yield filled_part_of(recording, job.crop, job.path) if job.crop else recording


def read_files(
    read: Callable[[Job], Result], jobs: Sequence[Job], paths: Sequence[Path], refused: Callable[[Job, str], Result]
) -> Iterator[Result]:
    """Yields what `read` returns for each job, in their order; many files are read by several processes.

    `paths` are the files of the jobs. Of a file that ended its process, the result is that of `refused`, which gets a
    line that says why.
    """
    work = sum(path.stat().st_size for path in paths)
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(jobs), work // BYTES_PER_PROCESS)
    if processes < 2:
        yield from map(read, jobs)
        return
    results = map_in_processes(read, jobs, processes)
    for job, path, result in zip(jobs, paths, results, strict=True):
        yield refused(job, f"{path}: {result.reason}") if isinstance(result, Lost) else result


def make_frames(jobs: Sequence[FrameJob]) -> Iterator[FileFrames]:
    """Yields the frames of files in the order of the jobs; a file that cannot be read has a problem."""
    return read_files(read_frames, jobs, [job.file.path for job in jobs], _lost)


def read_frames(job: FrameJob) -> FileFrames:
    """Reads a file once and makes the frames of all its recordings."""
    frames: list[NDArray[np.unsignedinteger[Any]]] = []
    facts: list[tuple[int, ...]] = []
    oddities = NOTHING_ODD
    try:
        for recording in recordings_of(job.file):
            oddities = recording.oddities  # of the file
            counts = _counts(job, recording)
            largest = int(counts.max())
            if largest > LARGEST_COUNT:
                raise EventFileError(f"{job.file.path}: {largest} events in one pixel and slice; use more steps")
            frames.append(counts.astype(np.uint8 if largest <= np.iinfo(np.uint8).max else np.uint16))
            facts.append((int(counts.sum()), recording.duration, recording.height, recording.width))
    except EventFileError as error:
        return _refused(job, str(error))
    return FileFrames(job.file.rows, frames, np.array(facts, np.int64), oddities=oddities)


def _counts(job: FrameJob, recording: Recording) -> NDArray[np.int32]:
    try:
        counts = recording_frames(recording, job.frames)
    except EventFileError as error:
        raise EventFileError(f"{job.file.path}: {error}") from None
    if job.frames.crop and not counts.any():
        raise EventFileError(f"{job.file.path}: holds no events in the crop {job.frames.crop}")
    return counts


def _refused(job: FrameJob, problem: str, passing: bool = False) -> FileFrames:
    return FileFrames(job.file.rows, [], np.empty((0, 4), np.int64), problem, passing)


def _lost(job: FrameJob, problem: str) -> FileFrames:
    return _refused(job, problem, passing=True)


def cut(recording: Recording, span: Span) -> Recording:
    """The events within a span of time."""
    inside = slice(*np.searchsorted(recording.t, span))
    return dataclasses.replace(recording, **{name: getattr(recording, name)[inside] for name in ("t", "x", "y", "p")})
