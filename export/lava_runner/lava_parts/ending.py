"""Ends the script, at any moment, with all that it has started: no process, shared memory or folder stays behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

INTERRUPTED = 130
PARENT = "RUN_LAVA_PARENT"  # environment variable: the process id of a parent that the script is not to outlive
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TRACKER_SECONDS = 5.0

begun = False  # whether the end has begun
_owner = 0
_held, _missed = 0, False
_rubbish: set[Path] = set()


def install() -> None:
    """From here on the signals that ask the script to end do so.

    The handler ends the script itself: an exception could be swallowed, in a destructor or by Lava.
    """
    global _owner
    _owner = os.getpid()
    for number in SIGNALS:
        # nohup, and a shell that starts a background job, ignore some.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupted)
    if os.environ.get(PARENT, "").isdecimal():
        die_with(int(os.environ[PARENT]), signal.SIGTERM)
    # Of multiprocessing's tracker, an interpreter of its own, which tells whatever it removes for us.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")


def die_with(parent: int, number: int) -> None:
    """Has this process get a signal when its parent dies, which only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), number)


def as_child(parent: int) -> None:
    """Makes a process that the script has forked end when the script ends it, or has died, and not before."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    die_with(parent, signal.SIGKILL)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Puts off an interrupt while something is made that could not be found again otherwise."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if _missed and not _held:
            _interrupted(signal.SIGINT, None)


def start_tracker() -> None:
    """Starts multiprocessing's tracker, which unlinks shared memory in the end, deaf to the signals sent to us all."""
    from multiprocessing import resource_tracker

    with held():
        # It ignores the other two by itself; what is blocked stays so in what is started.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            resource_tracker.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def removed(path: Path) -> Iterator[Path]:
    """Removes a file or a folder afterwards, also if the script ends in between."""
    _rubbish.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _rubbish.discard(path)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a while."""
    with contextlib.ExitStack() as stack:
        with held():
            path = stack.enter_context(removed(Path(tempfile.mkdtemp())))
        yield path


def end(code: int) -> None:
    """Ends all that was started, and the script, without what Python does at its exit: Lava's threads could hang it."""
    global begun
    try:
        begun = True
        if os.getpid() != _owner:
            return
        for stream in (sys.stdout, sys.stderr):
            # A closed pipe, or a flush that the interrupt came into.
            with contextlib.suppress(Exception):
                stream.flush()
        _end_children()
        _end_tracker()
        for path in _rubbish | _folders():
            _remove(path)
    finally:
        os._exit(code)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    global _missed
    if _held and os.getpid() == _owner:
        _missed = True
    elif not begun:
        end(INTERRUPTED)


def _end_children() -> None:
    """Ends the parts of the network and the managers of their memory."""
    # Not imported here: an interrupt can come in the midst of the import.
    children = list(getattr(sys.modules.get("multiprocessing.process"), "_children", ()))
    running = [child._popen for child in children if child._popen is not None and child._popen.returncode is None]
    numbers = [popen.pid for popen in running]
    for number in numbers:
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
    for number in numbers:
        with contextlib.suppress(OSError):
            os.waitpid(number, 0)


def _end_tracker() -> None:
    """Has multiprocessing's tracker unlink all shared memory, which it does when the last that uses it is gone."""
    tracker: Any = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    if tracker is None or tracker._fd is None or tracker._pid is None:
        return
    with contextlib.suppress(OSError):
        os.close(tracker._fd)
        late = time.monotonic() + TRACKER_SECONDS
        while os.waitpid(tracker._pid, os.WNOHANG) == (0, 0) and time.monotonic() < late:
            time.sleep(0.01)


def _folders() -> set[Path]:
    """The folder of multiprocessing's sockets, which Python would remove at its exit."""
    current = getattr(sys.modules.get("multiprocessing.process"), "_current_process", None)
    folder = getattr(current, "_config", {}).get("tempdir")
    return {Path(folder)} if folder else set()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
