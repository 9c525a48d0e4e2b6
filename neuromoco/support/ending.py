"""Ending on request: Ctrl-C and SIGTERM, noted until the work has come to a place from which it can go on."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

REQUESTS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled as an interruption."""


def interrupt_on_sigterm() -> None:
    """Lets SIGTERM end the program as Ctrl-C does, with what is cleaned up and said then; not if it is ignored."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, lambda *_: raise_request(signal.SIGTERM))


def raise_request(number: int) -> None:
    """Raises what a signal means.

    Raises:
        Terminated: SIGTERM.
        KeyboardInterrupt: any other.
    """
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


class EndRequest:
    """Notes the first Ctrl-C or SIGTERM within its context; a second one ends the program as it would have before.

    In other threads than the main one, which gets the signals, nothing is noted.

    Attributes:
        signal: the number of the signal that asked; 0 if none did.
    """

    signal = 0

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in REQUESTS}
            # Ignored ones stay ignored, as under nohup; None is a handler that Python cannot put back.
            self._before = {number: one for number, one in before.items() if one not in (signal.SIG_IGN, None)}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        self.__exit__()
