"""Ends a run in Lava that would wait for ever."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType
from typing import Any

from lava_parts import ending
from lava_parts.errors import LavaFailedError


class Guard:
    """While it is open, a part of the network that dies, and a silence that is too long, raise an exception.

    The exception comes out of a signal handler, since the main thread stands in one of Lava's locks by then. It comes
    again every second, since Python drops those that meet the main thread in a destructor.
    """

    def __init__(self, patience: float) -> None:
        """
        Args:
            patience: seconds from one `moved` to the next.
        """
        self._patience = patience
        self._ending = False
        self._reason = f"no answer for {patience:g} s: Lava hangs, or --patience is too short for this network"
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Guard:
        self._before = {
            signal.SIGALRM: signal.signal(signal.SIGALRM, self._fail),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, self._part_ended),
        }
        self.moved()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def moved(self) -> None:
        """Tells that the run goes on."""
        signal.setitimer(signal.ITIMER_REAL, self._patience, 1.0)

    def ending(self) -> None:
        """Tells that the parts end from here on, as they should."""
        self._ending = True

    def _fail(self, _number: int, _frame: FrameType | None) -> None:
        if not ending.begun:
            raise LavaFailedError(self._reason)

    def _part_ended(self, _number: int, _frame: FrameType | None) -> None:
        if self._ending or ending.begun:
            return
        # Lava closes a part that it has waited for.
        if any(part._closed or (part._popen and not part.is_alive()) for part in parts()):
            self._reason = "a part of the network died in Lava; its traceback, if it left one, stands above"
            signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
            raise LavaFailedError(self._reason)


def parts() -> list[Any]:
    """All operating-system processes that Lava has started."""
    from lava.magma.runtime.message_infrastructure import multiprocessing

    return multiprocessing.SystemProcess.parts


def end_parts(network: Any) -> None:
    """Ends what Lava has started, without its help.

    Args:
        network: the Process that was run.
    """
    for part in parts():
        # The last may not have started, and those that have ended in order are closed.
        if part._popen is not None and not part._closed:
            part.kill()
    runtime = network.runtime
    if runtime is None:
        return
    # Otherwise it asks the parts to stop, and waits for the answers, when it is collected.
    runtime._is_started = False
    with contextlib.suppress(Exception):
        runtime._messaging_infrastructure.smm.shutdown()
