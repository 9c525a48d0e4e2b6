"""Processes of a pool end however the process that started them ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuromoco.errors import NeuromocoError
from neuromoco.support.pool import process_pool

PROGRAM = """
import os, time
from neuromoco.support.pool import process_pool

def pid(seconds):
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
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


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True) as parent:
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
