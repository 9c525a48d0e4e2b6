"""Ending on request: Ctrl-C and SIGTERM, noted until the work has come to a place from which it can go on."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

# Windows has no SIGHUP, the end of a terminal.
REQUESTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """SIGTERM, or the end of the terminal, handled as an interruption.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.signal = number


def interrupt_on_request() -> None:
    """Lets SIGTERM, and the end of the terminal, end the program as Ctrl-C does: with what is cleaned up and said then.

    Those that are ignored stay ignored, as by nohup. Does nothing in other threads than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in REQUESTS:
        if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: raise_request(received))


def raise_request(number: int) -> None:
    """Raises what a signal means.

    Raises:
        Terminated: any but SIGINT.
        KeyboardInterrupt: SIGINT.
    """
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


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
