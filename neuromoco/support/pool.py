"""Work in several processes, which end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeVar

from neuromoco.errors import NeuromocoError
from neuromoco.support.ended import FROM_OUTSIDE, fate, reason

AHEAD = 3  # items per process that are worked on before their turn: bounds the memory
MOST_FAILED_STARTS = 3  # of processes that are killed from outside before they begin

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(NamedTuple):
    """Stands for the result of an item whose process ended instead of giving one."""

    status: int  # exit status: a negative number is that of a signal

    @property
    def reason(self) -> str:
        """Why there is no result."""
        return reason(self.status)


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    setup: Callable[..., None] | None = None,
    *arguments: Any,
) -> Iterator[Result | Lost]:
    """Results of a function in the order of the items; each process calls `setup(*arguments)` first.

    A process that ends is replaced, and the item that it held is lost; if it was killed from outside, as for lack of
    memory, the item is tried once more. Processes are spawned, since a fork does not copy the threads of torch and of
    ONNX Runtime; they end if this process is killed.

    Raises:
        NeuromocoError: a process ended before it was set up.
        Exception: whatever `setup` or the function raises.
    """
    workers = [_Worker(function, setup, arguments) for _ in range(min(processes, len(items)))]
    waiting, retried = deque(range(len(items))), set[int]()
    results: dict[int, Result | Lost] = {}
    failed_starts = 0
    try:
        for turn in range(len(items)):
            while turn not in results:
                for worker in workers:
                    if worker.ready and worker.held is None and waiting and waiting[0] < turn + AHEAD * processes:
                        worker.give(waiting[0], items[waiting.popleft()])
                for pipe in wait([worker.pipe for worker in workers]):
                    worker = next(worker for worker in workers if worker.pipe is pipe)
                    if (answer := worker.answer()) is not None:
                        results.update(answer)
                        continue
                    status, lost = worker.end(), worker.held
                    failed_starts += not worker.ready
                    if not worker.ready and (status not in FROM_OUTSIDE or failed_starts > MOST_FAILED_STARTS):
                        raise NeuromocoError(f"a process ended before it began its work ({fate(status)})")
                    workers[workers.index(worker)] = _Worker(function, setup, arguments)
                    if lost is not None and status in FROM_OUTSIDE and lost not in retried:
                        waiting.appendleft(lost)
                        retried.add(lost)
                    elif lost is not None:
                        results[lost] = Lost(status)
            yield results.pop(turn)
    finally:
        for worker in workers:
            worker.end()


class _Worker(Generic[Item, Result]):
    """A process, and the position of the item that it holds."""

    def __init__(
        self, function: Callable[[Item], Result], setup: Callable[..., None] | None, arguments: tuple[Any, ...]
    ) -> None:
        context = get_context("spawn")
        self.pipe, remote = context.Pipe()
        self._process = context.Process(target=_work, args=(remote, function, setup, *arguments), daemon=True)
        self._process.start()
        remote.close()
        self.held: int | None = None
        self.ready = False

    def give(self, position: int, item: Item) -> None:
        """Sends an item; that the process has ended is noticed when it does not answer."""
        self.held = position
        with suppress(OSError):
            self.pipe.send(item)

    def answer(self) -> dict[int, Result] | None:
        """The result of an item, or nothing from a process that is ready; None if it has ended."""
        try:
            error, result = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if error is not None:
            raise error
        held, self.held = self.held, None
        if held is None:
            self.ready = True
            return {}
        return {held: result}

    def end(self) -> int:
        """Ends the process, if it has not ended by itself, and returns its exit status."""
        self._process.kill()
        self._process.join()
        self.pipe.close()
        return self._process.exitcode or 0


def _work(pipe: Connection, function: Callable[[Any], Any], setup: Callable[..., None] | None, *arguments: Any) -> None:
    with suppress(EOFError, OSError):  # of the pipe: the parent needs no more
        pipe.send(_attempt(_start, setup, *arguments))
        while True:
            pipe.send(_attempt(function, pipe.recv()))


def _attempt(function: Callable[..., Any], *arguments: Any) -> tuple[Exception | None, Any]:
    try:
        return None, function(*arguments)
    except Exception as error:
        return error, None


@contextmanager
def process_pool(
    processes: int, advice: str, setup: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, which call `setup(*arguments)` first and end at once if the block fails or is interrupted.

    They are spawned, since a fork does not copy the threads of torch. They also end if this process is killed.

    Raises:
        NeuromocoError: a process was killed; the message ends with `advice`.
    """
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, (setup, *arguments))
    try:
        yield pool
    except BaseException as error:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            message = f"a process was killed, perhaps for lack of memory; what it had finished is kept: {advice}"
            raise NeuromocoError(message) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(setup: Callable[..., None] | None, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    Thread(target=_end_with_parent, daemon=True).start()
    if setup:
        setup(*arguments)


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)  # a process of a pool would wait for work forever
