"""Runs the units of a sweep, each after the one it needs, in one or several processes."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neuromoco.errors import DiskError, NeuromocoError
from neuromoco.support.pool import process_pool
from neuromoco.sweep.plan import Unit

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from neuromoco.sweep.unit import Worker


VISIBLE = "CUDA_VISIBLE_DEVICES"


class Outcome(NamedTuple):
    """The result of a unit, or the error that prevented it."""

    unit: Unit
    result: dict[str, Any] | None
    problem: str | None = None


class WorkerOptions(NamedTuple):
    """Arguments of `neuromoco.sweep.unit.Worker`, and the subclass of it that runs units, if it is another one."""

    out: Path
    test: str | None
    device: str
    kind: type[Worker] | None = None

    def start(self) -> Worker:
        """A worker with these arguments."""
        from neuromoco.sweep.unit import Worker

        return (self.kind or Worker)(self.out, self.test, self.device)


def run_units(units: Sequence[Unit], options: WorkerOptions, jobs: int) -> Iterator[Outcome]:
    """Runs units, each after the one it needs, and yields each outcome; skips units whose pre-training failed.

    One job is this process; of several, one that is killed raises NeuromocoError.
    """
    if jobs == 1:
        yield from _run_here(units, options)
        return
    jobs = min(jobs, len(units))
    begun = get_context("spawn").Value("i", 0)
    with process_pool(jobs, "run it again with fewer --jobs", _set_up, jobs, begun) as pool:
        pending = {pool.submit(_run_there, options, unit) for unit in units if unit.needs is None}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for outcome in [future.result() for future in done]:
                if outcome.problem is None:
                    ready = [unit for unit in units if unit.needs == outcome.unit.name]
                    pending |= {pool.submit(_run_there, options, unit) for unit in ready}
                yield outcome


def _run_here(units: Sequence[Unit], options: WorkerOptions) -> Iterator[Outcome]:
    worker = options.start()
    failed: set[str] = set()
    for unit in units:
        if unit.needs not in failed:
            outcome = _attempt(worker, unit)
            if outcome.problem:
                failed.add(unit.name)
            yield outcome


def _attempt(worker: Worker, unit: Unit) -> Outcome:
    try:
        return Outcome(unit, worker.run(unit))
    except DiskError:  # the other units would fail, too
        raise
    except NeuromocoError as error:
        return Outcome(unit, None, str(error))


def _run_there(options: WorkerOptions, unit: Unit) -> Outcome:
    return _attempt(_worker(options), unit)


@cache
def _worker(options: WorkerOptions) -> Worker:
    return options.start()


def _set_up(jobs: int, begun: Synchronized[int]) -> None:
    import torch

    import neuromoco.sweep.unit  # noqa: F401

    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if gpu := gpu_of(number, torch.cuda.device_count(), os.environ.get(VISIBLE)):
        os.environ[VISIBLE] = gpu  # read when the first tensor goes there
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    gc.freeze()  # accelerate collects garbage after each run; imported modules are not garbage


def gpu_of(process: int, count: int, visible: str | None) -> str | None:
    """The one GPU that a process, counted from 0, is to see, so that all are used in turn; None without a choice.

    Args:
        process: its number.
        count: how many GPUs this machine shows.
        visible: their names, as CUDA_VISIBLE_DEVICES has them; None if it is not set.
    """
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return names[process % count].strip() if 1 < count <= len(names) else None
