"""Two ways to do the same, timed in turn in one process, so that a noisy machine is noisy for both."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def paired(ours: Callable[[], object], peer: Callable[[], object], runs: int = 9) -> tuple[float, float, float]:
    """Times A B A B ... after one warm-up of each.

    Returns:
        Median seconds of ours, median seconds of the peer, and the median of the ratios peer / ours.
    """
    own, other = rounds(ours, peer, runs=runs)
    return median(own), median(other), median(b / a for a, b in zip(own, other, strict=True))


def rounds(*works: Callable[[], object], runs: int = 15) -> list[list[float]]:
    """Seconds of every work, done in turn, after one warm-up of each."""
    for work in works:
        work()
    seconds = [[_seconds(work) for work in works] for _ in range(runs)]
    return [list(column) for column in zip(*seconds, strict=True)]


def report(what: str, peer: str, figures: tuple[float, float, float]) -> None:
    """Prints one line."""
    ours, theirs, ratio = figures
    print(f"{what:<52} {ours * 1e3:8.1f} ms   {peer:<14} {theirs * 1e3:8.1f} ms   {ratio:5.2f} x")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
