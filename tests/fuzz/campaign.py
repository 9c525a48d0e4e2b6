"""A campaign: mutated inputs are read or refused in one line; none crashes, hangs, prints or fills the memory.

    python -m tests.fuzz [--share S] [--only KIND[/SEED]] [--number N] [--processes P]

To add a kind of input, write a module like `tests/fuzz/event_files.py` and a row in the table of `tests/fuzz/kinds.py`.
A `Kind` has three functions at the top level of a module (processes of the campaign import them):

- `seeds()`: valid inputs by name, each a dictionary of files: {"model.onnx": bytes}, or several files of a folder;
- `mutate(files, rng)`: a damaged copy of such files. `bytes_damage.damaged` changes any bytes; better mutations know
  the structure, and mend the checksums behind which a reader would never see the damage;
- `attempt(folder, number)`: tries the files, which lie in `folder`, as a user would. Returning means that they are
  accepted, a `NeuromocoError` of one line that they are refused; anything else is a finding. The number
  of the input may choose between ways to read. Nothing may be written into the working directory.

Inputs are tried in processes of their own, which may take 1 GiB more than they begin with and 2 s an input. They depend
on nothing but the name of the seed and the number: `--only` with `--number` tries a single one again. What goes
wrong is printed and kept in build/fuzz.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuromoco.errors import NeuromocoError

SECONDS = 2.0  # the longest that an input may take
BUSY = 3  # times as long as it computes, which a busy machine may add
NO_ANSWER_SECONDS = 20.0  # after which a process is ended
START_SECONDS = 120.0  # until a process has imported what it needs
MEMORY = 1 << 30
BLOCK = 2000  # inputs that a process tries before the next process
KEPT = Path("build/fuzz")
Files = Mapping[str, bytes]


class Kind(NamedTuple):
    """A kind of input; see the top of this module."""

    name: str
    inputs: int  # of each seed
    seeds: Callable[[], Mapping[str, Files]]
    mutate: Callable[[Files, np.random.Generator], Files]
    attempt: Callable[[Path, int], None]


class Block(NamedTuple):
    """Consecutive inputs of one seed."""

    kind: Kind
    seed: str
    files: Files
    first: int
    last: int

    def input(self, number: int) -> Files:
        """The files of one input."""
        return self.kind.mutate(self.files, np.random.default_rng([number, zlib.crc32(self.seed.encode())]))


@dataclass
class Figures:
    """What came of some inputs."""

    counts: Counter[str] = field(default_factory=Counter)  # "read" and "refused"
    findings: list[str] = field(default_factory=list)
    longest: float = 0.0  # seconds

    def add(self, other: Figures) -> None:
        """Joins the figures of more inputs."""
        self.counts += other.counts
        self.findings += other.findings
        self.longest = max(self.longest, other.longest)


def lay_out(files: Files, folder: Path) -> None:
    """Writes the files of an input into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def work(block: Block, folder: Path, connection: Connection) -> None:
    """Tries the inputs of a block and reports before and after each; runs in a process of its own."""
    lay_out(block.files, folder / "input")
    outcome(block.kind, folder / "input", 1)  # imports what comes late
    printed = folder / "printed"
    printed.touch()
    for stream in (1, 2):  # libraries print past Python's streams
        os.dup2(os.open(printed, os.O_WRONLY | os.O_APPEND), stream)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for number in range(block.first, block.last):
        lay_out(block.input(number), folder / "input")
        connection.send(("begin", number, 0.0))  # so that the parent knows which one, whatever becomes of us
        before = computing()
        result = outcome(block.kind, folder / "input", number)
        ctypes.CDLL(None).fflush(None)
        if words := printed.read_bytes():
            result = f"prints {words!r}"
            os.truncate(printed, 0)
        connection.send(("end", result, computing() - before))
    connection.send(("done", block.last, 0.0))


def computing() -> float:
    """Seconds that this process has computed, and those that it started and that have ended."""
    return sum(os.times()[:4])


def outcome(kind: Kind, folder: Path, number: int) -> str:
    """ "read", "refused", or what went wrong."""
    try:
        kind.attempt(folder, number)
        return "read"
    except NeuromocoError as error:
        message = str(error)
        return "refused" if message and message.isprintable() else f"message {message!r}"
    except BaseException as error:  # whatever else it is, it is a finding
        return f"{type(error).__name__}: {error}"


def run(block: Block) -> Figures:
    """Tries a block; a process that dies or hangs is replaced. What is too slow gets a second, unhurried chance."""
    figures, first = Figures(), block.first
    while first < block.last:
        for number, result, seconds in _tried(block._replace(first=first)):
            if seconds > SECONDS:  # once more: it may have waited for something else
                *_, (_, result, seconds) = _tried(block._replace(first=number, last=number + 1))
            figures.longest = max(figures.longest, seconds)
            if seconds > SECONDS or result not in ("read", "refused"):
                figures.findings.append(f"{block.kind.name}/{block.seed} --number {number}: {seconds:.1f} s, {result}")
                lay_out(block.input(number), KEPT / block.kind.name / block.seed / str(number))
            else:
                figures.counts[result] += 1
            first = number + 1
    return figures


def _tried(block: Block) -> Iterator[tuple[int, str, float]]:
    """Numbers, results and seconds of the inputs, until a process dies or hangs; without what a busy machine adds."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    folder = Path(tempfile.mkdtemp())
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(block, folder, theirs))
    worker.start()
    theirs.close()
    begun, current = time.monotonic(), block.first
    waiting = START_SECONDS
    try:
        while True:
            if not ours.poll(waiting):
                yield current, "no answer", time.monotonic() - begun
                return
            kind, value, computed = ours.recv()
            if kind == "begin":
                begun, current, waiting = time.monotonic(), int(value), NO_ANSWER_SECONDS
            elif kind == "end":
                waited = time.monotonic() - begun
                yield current, str(value), min(waited, max(computed, waited - BUSY * computed))
                waiting = START_SECONDS
            else:
                return
    except EOFError:
        worker.join()
        yield current, f"the process ended with {worker.exitcode}", time.monotonic() - begun
    finally:
        worker.kill()
        worker.join()
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)


def campaign(kinds: list[Kind], only: str | None, number: int | None, share: float, processes: int) -> Figures:
    """Prints a row a seed, and tries blocks in several processes."""
    whole = Figures()
    with ThreadPoolExecutor(processes) as pool:
        for kind in kinds:
            for seed, files in sorted(kind.seeds().items()):
                if only not in (None, kind.name, f"{kind.name}/{seed}"):
                    continue
                first, last = (0, max(1, round(kind.inputs * share))) if number is None else (number, number + 1)
                size = min(BLOCK, -(-(last - first) // processes))
                blocks = [
                    Block(kind, seed, files, begin, min(begin + size, last)) for begin in range(first, last, size)
                ]
                begun, figures = time.monotonic(), Figures()
                for part in pool.map(run, blocks):
                    figures.add(part)
                whole.add(figures)
                print(_row(f"{kind.name}/{seed}", last - first, figures, time.monotonic() - begun), flush=True)
    return whole


def _row(name: str, inputs: int, figures: Figures, seconds: float) -> str:
    row = (
        f"{name:28} {inputs:,} inputs in {seconds:5.1f} s: {figures.counts['read']:,} read, "
        f"{figures.counts['refused']:,} refused, longest {figures.longest:.2f} s, {len(figures.findings)} findings"
    )
    return "\n".join([row, *(f"    {finding[:300]}" for finding in figures.findings[:5])])


def main(kinds: list[Kind]) -> int:
    """1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of inputs, such as 0.1")
    parser.add_argument("--only", help="one kind, or one seed of it: KIND/SEED")
    parser.add_argument("--number", type=int, help="one input, of a seed or of all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    begun = time.monotonic()
    figures = campaign(kinds, options.only, options.number, options.share, options.processes)
    inputs = sum(figures.counts.values()) + len(figures.findings)
    print(f"{inputs:,} inputs in {(time.monotonic() - begun) / 60:.1f} min, {len(figures.findings)} findings")
    return 1 if figures.findings or not inputs else 0
