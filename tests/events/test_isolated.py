"""Files whose decoders crash or hang are read in a process of its own, which harms no one and outlives no one."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from neuromoco import EventFileError, Recording
from neuromoco.events import read_recording, read_windows, survey_recording
from neuromoco.events.isolated.session import SESSION
from tests.conftest import make_recording
from tests.helpers.aedat4_writer import write_aedat4
from tests.helpers.outcomes import refusal_of, rows
from tests.support.test_pool import runs

EVENTS = make_recording(3, events=3000)


def write(file: Path, recording: Recording = EVENTS, chunk: int = 500, **codec: object) -> Path:
    with h5py.File(file, "w") as out:
        for name in "txyp":
            out.create_dataset(f"events/{name}", data=getattr(recording, name), chunks=(chunk,), **codec)
        out["events"].attrs["geometry"] = "34x34"  # text of variable length, in a global heap
    return file


def overwritten(file: Path, mark: bytes, at: int, raw: bytes) -> Path:
    content = bytearray(file.read_bytes())
    place = content.index(mark) + at
    content[place : place + len(raw)] = raw
    file.write_bytes(content)
    return file


def endless_heap(folder: Path) -> Path:
    """An object in the global heap of no size: HDF5 looks for the next one forever."""
    return overwritten(write(folder / "heap.h5"), b"GCOL", 16 + 8, (2**64 - 16).to_bytes(8, "little"))


def endless_bzip2(folder: Path) -> Path:
    """A chunk that ends too early: the filter asks for more forever."""
    file = write(folder / "bzip2.h5", **hdf5plugin.BZip2())
    with h5py.File(file, "r+") as out:
        dataset = out["events/t"].id
        packed = dataset.read_direct_chunk((0,))[1]
        dataset.write_direct_chunk((0,), packed[: len(packed) // 2])
    return file


def crashing_aedat4(folder: Path) -> Path:
    """A description of streams that is not XML: the decoder recurses until its stack is full."""
    write_aedat4(folder / "a.aedat4", EVENTS)
    return overwritten(folder / "a.aedat4", b"<dv", 19, b"\xfa")


def child() -> int:
    """The process that reads, for this one."""
    assert SESSION._child is not None
    return SESSION._child._process.pid


@pytest.mark.parametrize("harmful", [endless_heap, endless_bzip2, crashing_aedat4])
def test_a_file_that_hangs_or_crashes_is_refused_within_seconds(
    tmp_path: Path, harmful: Callable[[Path], Path]
) -> None:
    file, good = harmful(tmp_path), write(tmp_path / "good.h5")
    assert rows(read_recording(good)) == rows(EVENTS)
    begin = time.monotonic()
    assert "damaged, or made to do harm" in refusal_of(lambda: read_recording(file))
    assert time.monotonic() - begin < 8
    assert rows(read_recording(good)) == rows(EVENTS)


def test_every_way_to_read_survives(tmp_path: Path) -> None:
    file = crashing_aedat4(tmp_path)
    for read in (read_recording, survey_recording, lambda path: list(read_windows(path, 100_000))):
        assert "crashed (SIGABRT)" in refusal_of(lambda: read(file))  # noqa: B023


def test_one_process_reads_all_files_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5")
    read_recording(file)
    first = child()
    assert rows(read_recording(file)) == rows(EVENTS)
    assert child() == first
    os.kill(first, signal.SIGKILL)
    assert rows(read_recording(file)) == rows(EVENTS)
    assert child() != first
    assert not runs(first)


def test_a_recording_goes_on_where_it_was_when_its_process_is_killed(
    tmp_path: Path,
) -> None:
    big = make_recording(0, events=2_500_000)
    reading = read_windows(write(tmp_path / "a.h5", big, 100_000), 10_000)
    some = [next(reading)]
    os.kill(child(), signal.SIGKILL)
    some += reading
    assert np.array_equal(np.concatenate([window.t for window in some]), big.t)


def test_threads_share_the_process_and_only_the_harmful_file_is_blamed(tmp_path: Path) -> None:
    bad, good = endless_heap(tmp_path), [write(tmp_path / f"{seed}.h5", make_recording(seed)) for seed in range(6)]

    def read(file: Path) -> object:
        try:
            return rows(read_recording(file))
        except EventFileError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(read, [*good[:3], bad, *good[3:]]))
    assert "made to do harm" in str(answers.pop(3))
    assert answers == [rows(make_recording(seed)) for seed in range(6)]


def test_daemons_and_forks_have_processes_of_their_own(tmp_path: Path) -> None:
    file = write(tmp_path / "a.h5")
    read_recording(file)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert rows(pool.apply(read_recording, (file,))) == rows(EVENTS)
    code = f"""
import os
from neuromoco.events import read_recording
from neuromoco.events.isolated.session import SESSION
file = __import__("pathlib").Path({str(file)!r})
stream = SESSION.open("hdf5", file, __import__("neuromoco").events.ReadOptions())
pid = os.fork()
if not pid:
    assert len(read_recording(file)) == 3000
    assert sum(len(piece.t) for piece in stream.pieces) == 3000
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert sum(len(piece.t) for piece in stream.pieces) == 3000
assert len(read_recording(file)) == 3000
"""
    answer = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stderr) == (0, "")


READS = """
import sys, time
from pathlib import Path
from neuromoco.events import read_recording
from neuromoco.events.isolated.session import SESSION
if SESSION._child:
    sys.exit("started at import")
read_recording(sys.argv[1])
print(SESSION._child._process.pid, flush=True)
if len(sys.argv) > 2:
    read_recording(sys.argv[2])
time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_with_its_parent(tmp_path: Path, end: signal.Signals) -> None:
    file = write(tmp_path / "a.h5")
    with subprocess.Popen(
        [sys.executable, "-c", READS, file], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        maps = Path(f"/proc/{pid}/maps")
        assert not maps.is_file() or "torch" not in maps.read_text()
        parent.send_signal(end)
    ends = time.monotonic() + 10
    while runs(pid) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not runs(pid)


def test_an_interrupted_read_ends_at_once_and_leaves_one_traceback(tmp_path: Path) -> None:
    files = write(tmp_path / "a.h5"), endless_heap(tmp_path)
    command = [sys.executable, "-c", READS, *files]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        _, error = parent.communicate(timeout=10)
    assert error.count("Traceback") == 1
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert not runs(pid)


def test_memory_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(write(file), "r+") as out:
        del out["events/t"]
        dataset = out.create_dataset("events/t", (3000,), "i8", chunks=(3000,), compression="gzip")
        packer = zlib.compressobj(1)
        head = packer.compress(bytes(1000)) + packer.flush(zlib.Z_FULL_FLUSH)
        again = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
        dataset.id.write_direct_chunk((0,), head + 160 * again)  # 2.5 GiB
    # A child counts as large as this process until it runs its own program.
    before = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    assert "damaged" in refusal_of(lambda: read_recording(file))
    SESSION.end()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 1_300_000)
