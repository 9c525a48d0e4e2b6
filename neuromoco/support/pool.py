"""Work in several processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from neuromoco.errors import NeuromocoError


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
