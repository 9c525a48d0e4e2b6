"""Units done by several processes at once, each after the one that it needs."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator, Sequence
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from neuromoco.errors import NeuromocoError
from neuromoco.sweep.plan import Unit


class Outcome(NamedTuple):
    """What became of a unit: its result, or why there is none."""

    unit: Unit
    result: dict[str, Any] | None
    problem: str | None = None


class Setup(NamedTuple):
    """What every process is given, see `neuromoco.sweep.unit.Worker`."""

    out: Path
    test: str | None
    device: str


def do_units(units: Sequence[Unit], setup: Setup, jobs: int) -> Iterator[Outcome]:
    """Does all units and yields each as it is done; one whose pre-training failed is left out.

    Args:
        units: each after what it needs.
        setup: where and how.
        jobs: processes; with 1 the work is done in this one.

    Raises:
        NeuromocoError: a process was killed.
    """
    return _here(units, setup) if jobs == 1 else _apart(units, setup, jobs)


def attempt(worker: Any, unit: Unit) -> Outcome:
    """A unit's result, or what the user is to be told."""
    try:
        return Outcome(unit, worker.do(unit))
    except NeuromocoError as error:
        return Outcome(unit, None, str(error))


def _here(units: Sequence[Unit], setup: Setup) -> Iterator[Outcome]:
    from neuromoco.sweep.unit import Worker

    worker = Worker(*setup)
    failed: set[str] = set()
    for unit in units:
        if unit.needs not in failed:
            outcome = attempt(worker, unit)
            if outcome.problem:
                failed.add(unit.name)
            yield outcome


def _apart(units: Sequence[Unit], setup: Setup, jobs: int) -> Iterator[Outcome]:
    ready = [unit for unit in units if unit.needs is None]
    waiting = [unit for unit in units if unit.needs is not None]
    busy: dict[Connection, BaseProcess] = {}
    idle: list[tuple[Connection, BaseProcess]] = [_start(setup, jobs) for _ in range(min(jobs, len(units)))]
    every = [process for _, process in idle]
    try:
        while ready or busy:
            while ready and idle:
                pipe, process = idle.pop()
                pipe.send(ready.pop(0))
                busy[pipe] = process
            answered = connection.wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in answered]:
                outcome = _receive(pipe)
                idle.append((pipe, busy.pop(pipe)))
                if outcome.problem is None:
                    ready += [unit for unit in waiting if unit.needs == outcome.unit.name]
                yield outcome
    finally:
        for process in every:  # also where this process is interrupted: whatever is written is whole
            process.terminate()
        for process in every:
            process.join()


def _receive(pipe: Connection) -> Outcome:
    try:
        outcome: Outcome = pipe.recv()
    except EOFError:
        raise NeuromocoError(
            "a process was killed, for want of memory? What it had done is kept: run it again with fewer --jobs"
        ) from None
    return outcome


def _start(setup: Setup, jobs: int) -> tuple[Connection, BaseProcess]:
    context = get_context("spawn")  # torch has threads, and they do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, setup, jobs))
    process.start()
    theirs.close()
    return ours, process


def _serve(pipe: Connection, setup: Setup, jobs: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    import torch

    from neuromoco.sweep.unit import Worker

    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    worker = Worker(*setup)
    gc.freeze()  # accelerate collects garbage after every run; all that is imported is none
    while True:
        try:
            unit = pipe.recv()
        except EOFError:  # the parent is gone
            return
        pipe.send(attempt(worker, unit))
