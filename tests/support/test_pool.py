"""Processes of a pool end however the process that started them ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuromoco.errors import NeuromocoError
from neuromoco.support.pool import Lost, map_in_processes, process_pool

PROGRAM = """
import os, sys, time
from neuromoco.support.pool import map_in_processes, process_pool

def pid(seconds):
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
    if sys.argv[1] == "map":
        answers = map_in_processes(pid, [0.5] * 4 + [600] * 8, 2)
        print(*{next(answers) for _ in range(4)}, flush=True)
        next(answers)
    with process_pool(2, "") as pool:
        print(*{job.result() for job in [pool.submit(pid, 0.5), pool.submit(pid, 0.5)]}, flush=True)
        time.sleep(600)
"""


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a zombie has ended, too
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("kind", ["map", "pool"])
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen([sys.executable, tmp_path / "program.py", kind], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(word) for word in parent.stdout.readline().split()]
        finally:
            parent.kill()
    assert pids
    end = time.monotonic() + 30
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert [pid for pid in pids if runs(pid)] == []


def test_an_error_in_the_block_ends_them_at_once() -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError), process_pool(1, "") as pool:
        pool.submit(time.sleep, 600).result(0.1)
    assert time.monotonic() - begin < 60


def test_a_killed_process_is_reported_with_advice() -> None:
    with pytest.raises(NeuromocoError, match=r"was killed, .*: try again$"), process_pool(1, "try again") as pool:
        pool.submit(os._exit, 1).result()


def answer(item: tuple[str, Path]) -> str:
    """The item, or the end of the process."""
    word, folder = item
    if word == "crash":
        os.abort()
    if word == "killed" or (word == "killed once" and not (folder / "killed").exists()):
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "error":
        raise LookupError("a bug")
    return word


def test_items_come_in_order_and_only_those_that_end_their_process_are_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["a", "crash", "b", "killed once", "c", "killed", *map(str, range(20)), "crash"]
    found = list(map_in_processes(answer, [(word, tmp_path) for word in words], 2))
    reasons = [result.reason if isinstance(result, Lost) else result for result in found]
    crashed = "damaged, or made to do harm: the process that read it crashed (SIGABRT)"
    killed = "the process that read it was killed twice, perhaps for lack of memory"
    assert reasons == ["a", crashed, "b", "killed once", "c", killed, *map(str, range(20)), crashed]
    assert capfd.readouterr() == ("", "")
    assert multiprocessing.active_children() == []


def test_errors_of_the_function_and_of_the_setup_are_raised(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="a bug"):
        list(map_in_processes(answer, [("error", tmp_path)], 2))
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_in_processes(answer, [("a", tmp_path)], 2, int, "x"))
    with pytest.raises(NeuromocoError, match="before it began its work"):
        list(map_in_processes(answer, [("a", tmp_path)], 2, os._exit, 3))
    assert multiprocessing.active_children() == []
