"""Memory and speed of reading a long recording window by window.

    python -m benchmarks.long_recording [--gigabytes N]

Writes ATIS files of 10 MB, 100 MB and 1 GB into a temporary folder (5 bytes and 1 us an event), cuts each
into windows of half a second in a process of its own, and prints the largest memory that the process ever had.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from neuromoco.events import read_windows
from neuromoco.events.atis import EVENT_BYTES, OVERFLOW_ROW, OVERFLOW_US

WINDOW_US = 500_000
WIDTH, HEIGHT = 240, 180


def write_long(path: Path, size: int) -> int:
    """An ATIS file of about so many bytes; returns the number of events."""
    rng = np.random.default_rng(0)
    mark = bytes([0, OVERFLOW_ROW, 0, 0, 0])
    events = size // EVENT_BYTES
    written = 0
    with path.open("wb") as file:
        while written < events:
            t = np.arange(min(OVERFLOW_US, events - written))  # one event a microsecond
            block = np.empty((t.size, EVENT_BYTES), np.uint8)
            block[:, 0] = rng.integers(0, WIDTH, t.size)
            block[:, 1] = rng.integers(0, HEIGHT, t.size)
            block[:, 2] = rng.integers(0, 2, t.size) << 7
            block[:, 3], block[:, 4] = t >> 8, t & 0xFF
            file.write(block.tobytes() + mark)
            written += t.size
    return events


def read(path: Path) -> None:
    """Goes through all windows, and prints events, windows, seconds, and the largest memory in MB."""
    begin, events, parts = time.perf_counter(), 0, 0
    for window in read_windows(path, WINDOW_US):
        events, parts = events + len(window), parts + 1
    seconds = time.perf_counter() - begin
    print(events, parts, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the largest file")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.read)
        return
    print(f"windows of {WINDOW_US / 1e3:.0f} ms; the process's largest memory includes Python and numpy")
    for share in (0.01, 0.1, 1.0):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.bin"
            events = write_long(path, int(options.gigabytes * share * 1e9))
            words = [sys.executable, "-m", "benchmarks.long_recording", "--read", str(path)]
            answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
            assert int(answer[0]) == events
            size, seconds = path.stat().st_size, float(answer[2])
        print(
            f"{size / 1e6:7,.0f} MB, {events / 1e6:6.1f} M events: {int(answer[1]):4} windows in {seconds:5.1f} s "
            f"({events / seconds / 1e6:.1f} M events/s), largest memory {float(answer[3]):.0f} MB"
        )


if __name__ == "__main__":
    main()
