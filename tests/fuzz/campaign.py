"""Mutated event files: each is read, or refused with EventFileError; none crashes, hangs, prints or fills the memory.

    python -m tests.fuzz [--inputs N] [--only FORMAT]

Every format has a small valid file, which is cut, flipped, overwritten and spliced at random. Inputs are read in
processes of their own, which may take 1 GiB more than they begin with. What goes wrong is printed with the input kept.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions, Recording, read_recording, read_windows
from neuromoco.events.writers import WRITERS
from tests.fuzz.seeds import SEEDS

SECONDS = 2.0  # the longest that an input may take
MEMORY = 1 << 30
INPUTS = 8_000  # of each format
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def example() -> Recording:
    """A small recording with both polarities, equal times and gaps."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 200_000, 120))
    t[10:14] = t[10]
    return Recording.from_columns(
        t, rng.integers(0, 34, 120), rng.integers(0, 34, 120), rng.integers(0, 2, 120), width=34, height=34
    )


def seeds() -> dict[str, bytes]:
    """A valid file of every format that is read, by name."""
    made = {name: build(example()) for name, build in SEEDS.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, write in WRITERS.items():
            write(Path(folder) / name, example())
            made[name] = (Path(folder) / name).read_bytes()
    return made


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to three changes."""
    raw = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if not raw:
            break
        # Half of all changes hit the beginning, where sizes and names stand.
        end = len(raw) if rng.random() < 0.5 else min(len(raw), 300)
        at = int(rng.integers(0, end))
        change = rng.integers(0, 6)
        if change == 0:  # cut
            del raw[at:]
        elif change == 1:  # flip a bit
            raw[at] ^= 1 << int(rng.integers(0, 8))
        elif change == 2:  # any bytes
            raw[at : at + 8] = rng.bytes(int(rng.integers(1, 9)))
        elif change == 3:  # a number that people forget
            size = int(rng.choice([1, 2, 4, 8]))
            order = "little" if rng.random() < 0.5 else "big"
            number = NUMBERS[int(rng.integers(0, len(NUMBERS)))] & ((1 << 8 * size) - 1)
            raw[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
        elif change == 4:  # leave a part out
            del raw[at : at + int(rng.integers(1, 64))]
        else:  # repeat a part
            raw[at:at] = raw[at : at + int(rng.integers(1, 64))]
    return bytes(raw)


def work(content: bytes, first: int, last: int, connection: Connection) -> None:
    """Reads inputs and reports before and after each."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    path = Path(tempfile.mkdtemp()) / "input"
    path.write_bytes(content)
    outcome(path, 1)  # imports what comes late
    printed = path.with_name("printed")
    printed.touch()
    for stream in (1, 2):  # libraries print past Python's streams
        os.dup2(os.open(printed, os.O_WRONLY | os.O_APPEND), stream)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY + (1 << 29), size + MEMORY + (1 << 29)))
    for number in range(first, last):
        path.write_bytes(mutated(content, np.random.default_rng([number, len(content)])))
        connection.send(("begin", number))  # so that the parent knows which one, whatever becomes of us
        result = outcome(path, number)
        ctypes.CDLL(None).fflush(None)
        if words := printed.read_bytes():
            result = f"prints {words!r}"
            os.truncate(printed, 0)
        connection.send(("end", result))
    connection.send(("done", last))


def outcome(path: Path, number: int) -> str:
    """ "read", "refused", or what went wrong."""
    options = ReadOptions(sensor=(34, 34) if number % 2 else None)
    try:
        if number % 3:
            read_recording(path, options=options)
        else:
            for count, _ in enumerate(read_windows(path, 1 << 40, options)):
                if count > 1000:
                    break
        return "read"
    except EventFileError as error:
        message = str(error)
        return "refused" if message.startswith(f"{path}: ") and "\n" not in message else f"message {message!r}"
    except BaseException as error:  # whatever else it is, it is a finding
        return f"{type(error).__name__}: {error}"


def run(name: str, content: bytes, inputs: int) -> tuple[dict[str, int], list[str], float]:
    """Reads inputs of a format; returns counts, findings, and the longest time of one."""
    counts, findings, longest = {"read": 0, "refused": 0}, [], 0.0
    next_input = 0
    while next_input < inputs:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.get_context("spawn").Process(
            target=work, args=(content, next_input, inputs, theirs), daemon=True
        )
        worker.start()
        theirs.close()
        begun, current = time.monotonic(), -1
        while True:
            waiting = SECONDS if current >= 0 else 60.0
            try:
                if not ours.poll(waiting):
                    findings.append(f"{name} input {current}: no answer within {waiting} s")
                    break
                kind, value = ours.recv()
            except EOFError:
                worker.join()
                findings.append(f"{name} input {current}: the process ended with {worker.exitcode}")
                break
            if kind == "begin":
                begun, current = time.monotonic(), int(value)
            elif kind == "end":
                longest = max(longest, time.monotonic() - begun)
                counts[str(value)] = counts.get(str(value), 0) + 1
                if value not in ("read", "refused"):
                    findings.append(f"{name} input {current}: {value}")
                next_input = current + 1
            else:
                next_input = inputs
                break
        worker.kill()
        worker.join()
        next_input = max(next_input, current + 1)
    return counts, findings, longest


def main() -> int:
    """Prints a row a format; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of each format")
    parser.add_argument("--only", help="one format")
    options = parser.parse_args()
    total, wrong = 0, []
    for name, content in sorted(seeds().items()):
        if options.only not in (None, name):
            continue
        begin = time.monotonic()
        counts, findings, longest = run(name, content, options.inputs)
        total += options.inputs
        wrong += findings
        print(
            f"{name:16} {options.inputs:,} inputs in {time.monotonic() - begin:5.1f} s: {counts['read']:,} read, "
            f"{counts['refused']:,} refused, longest {longest:.2f} s, {len(findings)} findings",
            flush=True,
        )
        for finding in findings[:5]:
            print(f"    {finding[:300]}", flush=True)
    print(f"{total:,} inputs, {len(wrong)} findings")
    return 1 if wrong else 0
