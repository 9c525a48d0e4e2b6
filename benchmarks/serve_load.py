"""The server under load and under attack, on loopback.

    python -m benchmarks.serve_load [--uploads 200] [--at-once 8] [--long RECORDING] [--against PYTHON]

Starts `neuromoco serve` with an audit hook in it and in its workers. Uploads the bundled recordings, every tenth
damaged, for ONNX alone, and watches the answers, the memory and the files; asks for all windows of a recording of 20 s
in one request; then sends `hostile_requests` and looks at every file that was opened meanwhile. With `--against`, the
Python of another installation of neuromoco serves the same uploads, too, before and after, on the same machine. Ends
with 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import httpx
import numpy as np

from benchmarks.hostile_requests import CLOSED, hostile_requests
from neuromoco import Recording, models, read_recording
from neuromoco.events import write_npz

MAX_MB = 8
PAGE = os.sysconf("SC_PAGE_SIZE")
# Python runs this at the start of every process: the server's and its workers'.
HOOK = """
import os, sys
log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
watched = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.system", "os.exec",
           "subprocess.Popen", "socket.connect", "os.truncate", "os.chmod", "os.utime")
def hook(event, args):
    if event in watched:
        writes = event not in ("open", "socket.connect") or event == "open" and bool((args[2] or 0) & 3)
        os.write(log, f"{event}\\t{int(writes)}\\t{args[0]!r}\\n".encode(errors="replace"))
sys.addaudithook(hook)
"""


@dataclass
class Served:
    """A running server.

    Attributes:
        url: where it answers.
        process: it.
        uploads: the folder in which it makes its temporary folder.
        log: what was opened.
    """

    url: str
    process: subprocess.Popen[str]
    uploads: Path
    log: Path

    def files(self) -> list[Path]:
        return [path for path in self.uploads.rglob("*") if path.is_file()]

    def memory(self) -> int:
        """Bytes that the server and its children keep in memory."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        pids = [str(self.process.pid), *children]
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in pids)


def start(folder: Path, python: str = sys.executable) -> Served:
    """Starts a server of two workers."""
    (folder / "hook").mkdir()
    (folder / "hook/sitecustomize.py").write_text(HOOK)
    (folder / "uploads").mkdir()
    (folder / "work").mkdir()
    paths = {"PYTHONPATH": str(folder / "hook"), "TMPDIR": str(folder / "uploads"), "AUDIT_LOG": str(folder / "log")}
    process = subprocess.Popen(
        [python, "-m", "neuromoco.app", "serve", "--port", "0", "--max-mb", str(MAX_MB)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder / "work",
        env=os.environ | paths,
        start_new_session=True,
    )
    assert process.stdout is not None
    found = re.search(r"http://[\d.:]+", process.stdout.readline())
    assert found, "the server did not start"
    return Served(found[0], process, folder / "uploads", folder / "log")


def load(served: Served, uploads: int, at_once: int) -> list[str]:
    """Uploads; returns what is wrong."""
    good = [path.read_bytes() for path in models.example_paths()]
    damaged = [good[0][:-2], b"\x89PNG\r\n\x1a\n" + bytes(99), b"", np.random.default_rng(0).bytes(20_000) + b"x"]
    wrong, seconds, memory = [], [], []
    client = httpx.Client(base_url=served.url, timeout=60)

    def upload(number: int) -> None:
        bad = number % 10 == 9
        content = damaged[number // 10 % len(damaged)] if bad else good[number % 10]
        begin = time.perf_counter()
        response = client.post("/classify", files={"file": (f"{number}.bin", content)}, data={"backend": "onnx"})
        seconds.append(time.perf_counter() - begin)
        memory.append(served.memory())
        expected = (400, None) if bad else (200, str(number % 10))
        if (response.status_code, response.json().get("label")) != expected:
            wrong.append(f"upload {number}: {response.status_code} {response.text[:200]}")

    for _ in range(4):  # so that both workers are warm
        client.post("/classify", files={"file": good[0]}, data={"backend": "onnx"})
    begin = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(upload, range(uploads)))
    took = time.perf_counter() - begin
    first, last = (statistics.mean(part) / 2**20 for part in (memory[:50], memory[-50:]))
    print(f"uploads            {uploads}, {at_once} at a time, {uploads // 10} of them damaged")
    print(f"not as they should {len(wrong)}")
    print(f"per second         {uploads / took:.0f}")
    late = statistics.quantiles(seconds, n=100)[98]
    print(f"answered within    {statistics.median(seconds):.3f} s (median), {late:.3f} s (99 %), {max(seconds):.3f} s")
    print(f"memory             {first:.0f} MB in the first 50, {last:.0f} MB in the last 50 ({last / first - 1:+.1%})")
    print(f"files left         {len(served.files())}")
    if abs(last / first - 1) > 0.1:
        wrong.append("the memory is not flat")
    return wrong + [f"left: {path}" for path in served.files()]


def windows(served: Served, recording: Path | None, folder: Path) -> list[str]:
    """Asks for the windows of 100 ms of a recording of 20.6 s, such as of examples one after another."""
    if recording is None:
        recording = folder / "long.npz"
        one = [read_recording(path) for path in models.example_paths()]
        parts = [one[number % len(one)] for number in range(66)]
        t = np.concatenate([part.t - part.t[0] + 312_000 * number for number, part in enumerate(parts)])
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in "xyp"}
        write_npz(recording, Recording.from_columns(t, **columns, width=34, height=34))
    asked = {"windows": "true", "window_ms": "100", "backend": "onnx"}
    begin = time.perf_counter()
    response = httpx.post(f"{served.url}/classify", files={"file": recording.read_bytes()}, data=asked, timeout=60)
    took = time.perf_counter() - begin
    lines = response.text.splitlines()
    print(f"all windows        {len(lines) - 1} of a recording in {took:.2f} s")
    return [] if response.status_code == 200 and "summary" in lines[-1] else [f"windows: {response.text[:200]}"]


def attack(served: Served, folder: Path) -> list[str]:
    """Sends all hostile requests; returns what is wrong."""
    secret = folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        for column, values in {"t": np.arange(100) * 1000, "x": np.arange(100) % 34, "y": np.arange(100) % 34}.items():
            file[f"events/{column}"] = values
        file["events/p"] = np.arange(100) % 2
    (folder / "made").mkdir()
    requests = list(hostile_requests(MAX_MB << 20, folder / "made", secret))
    before, begin = listing(folder), served.log.stat().st_size
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda one: one.send(served.url), requests))
    wrong = [
        f"{one.name}: {status}" for one, status in zip(requests, statuses, strict=True) if status not in one.allowed
    ]
    counts = Counter("closed" if status == CLOSED else str(status) for status in statuses)
    print(
        f"hostile requests   {len(requests)}: " + ", ".join(f"{n} x {status}" for status, n in sorted(counts.items()))
    )
    wrong += [f"made or gone: {path}" for path in sorted(listing(folder) ^ before)]
    opened, foreign = opened_since(served, begin)
    print(f"opened meanwhile   {opened} files, {len(foreign)} of them where they should not be")
    answer = httpx.post(f"{served.url}/classify", files={"file": models.example_paths()[3].read_bytes()}, timeout=60)
    if answer.json().get("label") != "3":
        wrong.append(f"no good answer any more: {answer.text[:200]}")
    return wrong + foreign


def listing(folder: Path) -> set[str]:
    """Names in the working folders and in the system's temporary folder that a request could have made."""
    elsewhere = {str(path) for path in Path(tempfile.gettempdir()).iterdir() if "pwned" in path.name}
    return {str(path) for path in folder.rglob("*") if path.name != "log"} | elsewhere


def opened_since(served: Served, begin: int) -> tuple[int, list[str]]:
    """How many files the server opened, and which of them are neither its uploads nor, to read, its programs."""
    with served.log.open("rb") as file:
        file.seek(begin)
        lines = set(file.read().decode(errors="replace").splitlines())
    own = (str(served.uploads), "/dev/null", "/dev/urandom")
    programs = (
        sys.prefix,
        sys.base_prefix,
        str(Path(__file__).parent.parent),
        "/proc/",
        "/sys/",
        "/usr/",
        "/etc/ld.so",
        *(path for path in sys.path if path),
    )
    foreign = []
    for line in lines:
        event, writes, path = line.split("\t", 2)
        place = path.strip("'\"b")
        reader = event == "subprocess.Popen" and place == sys.executable  # of HDF5 and AEDAT4, isolated
        if reader or place.isdigit() or place.startswith(own) or (writes == "0" and place.startswith(programs)):
            continue
        foreign.append(f"{event} ({'writes' if writes == '1' else 'reads'}): {path}")
    return len(lines), foreign


def stop(served: Served) -> list[str]:
    """Ends the server; returns what it leaves."""
    served.process.send_signal(signal.SIGTERM)
    code = served.process.wait(30)
    wrong = [f"left: {path}" for path in served.uploads.rglob("*")]
    time.sleep(0.5)
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = status.read_text().rsplit(")", 1)[1].split()[:3]
            if int(group) == served.process.pid and state != "Z":  # a zombie waits for init alone
                wrong.append(f"left: process {status.parent.name}")
    return wrong if code == 0 else [*wrong, f"ended with {code}"]


def main() -> None:
    """Prints figures, then what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--long", type=Path, help="a recording whose windows are asked for")
    parser.add_argument("--against", help="the Python of another installation of neuromoco")
    words = parser.parse_args()
    if words.against:
        compared(words.against, words.uploads, words.at_once)
    with serving() as (served, folder):
        wrong = load(served, words.uploads, words.at_once)
        wrong += windows(served, words.long, folder) + attack(served, folder)
        wrong += stop(served)
    if words.against:
        compared(words.against, words.uploads, words.at_once)
    print("\n".join(wrong) or "nothing wrong")
    sys.exit(bool(wrong))


@contextlib.contextmanager
def serving(python: str = sys.executable) -> Iterator[tuple[Served, Path]]:
    """A running server, and the folder around its own."""
    folder = Path(tempfile.mkdtemp(prefix="serve-load-"))
    served = start(folder, python)
    try:
        yield served, folder
    finally:
        served.process.kill()
        shutil.rmtree(folder)


def compared(python: str, uploads: int, at_once: int) -> None:
    """The same uploads with another installation."""
    print(f"with {python}:")
    with serving(python) as (served, _):
        load(served, uploads, at_once)
    print("with this one:")


if __name__ == "__main__":
    main()
