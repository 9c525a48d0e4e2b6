"""What it means for a file that the process that read it ended."""

from __future__ import annotations

import signal

FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT)  # exit statuses of killed processes


def fate(status: int) -> str:
    """How a process ended, such as "SIGSEGV", given its exit status: a negative number is that of a signal."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def reason(status: int) -> str:
    """Why a file was not read, given the exit status of a process that had a second chance if it was killed."""
    if status in FROM_OUTSIDE:
        return "the process that read it was killed twice, perhaps for lack of memory"
    return f"damaged, or made to do harm: the process that read it crashed ({fate(status)})"
