"""Finds recordings that share events, whatever their names, formats and first times.

A fingerprint has the smallest hashes of a recording's runs of consecutive events (places, polarities and the times
between them): a sample of its runs, and the same one in every copy (Broder 1997, "On the resemblance and containment of
documents"). Copies that are mirrored, scaled or have rounded times have other runs, and are not found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.events import Recording

RUN = 8  # events: fewer are alike by chance in dense recordings, more are broken by few lost events
KEPT = 64  # hashes of a fingerprint
PIECE = 1 << 18  # events that are hashed at once
MOST_COMPARED = 16  # recordings with a hash in common that are all compared; of more, each with the next one
SHARED = 0.5  # of the events of the smaller recording: from here on, two are nearly the same
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


class Fingerprint(NamedTuple):
    """The smallest hashes of a recording's runs, sorted, and the number of its runs."""

    hashes: Hashes
    runs: int


class Twins(NamedTuple):
    """Two recordings, by their positions, and the share of the smaller one's events that the other one has."""

    first: int
    second: int
    shared: float


def fingerprint(recording: Recording) -> Fingerprint:
    """The fingerprint of a recording; one of fewer events than a run has none."""
    runs = max(0, len(recording) - RUN + 1)
    smallest = np.empty(0, np.uint64)
    for first in range(0, runs, PIECE):
        hashes = _run_hashes(recording, first, min(PIECE, runs - first))
        if hashes.size > KEPT:  # sorting all of them would cost more
            hashes = hashes[hashes <= np.partition(hashes, KEPT)[KEPT]]
        smallest = np.unique(np.concatenate([smallest, hashes]))[:KEPT]
    return Fingerprint(smallest, runs)


def _run_hashes(recording: Recording, first: int, count: int) -> Hashes:
    """Hashes of the runs that begin at `count` consecutive events."""
    part = slice(first, first + count + RUN - 1)
    events = recording.x[part].astype(np.uint64)
    events |= recording.y[part].astype(np.uint64) << np.uint64(16)
    events |= recording.p[part].astype(np.uint64) << np.uint64(32)
    events[1:] ^= np.diff(recording.t[part]).astype(np.uint64) << np.uint64(33)
    events = _mixed(events)
    # The time before a run's first event is no part of it.
    alone = recording.x[part][:count].astype(np.uint64) + (recording.y[part][:count].astype(np.uint64) << np.uint64(16))
    hashes = _mixed(alone + (recording.p[part][:count].astype(np.uint64) << np.uint64(32)))
    for place in range(1, RUN):
        hashes = hashes * _FACTOR + events[place : place + count]
    return _mixed(hashes)


def _mixed(values: Hashes) -> Hashes:
    """A hash of 64 bits (the finalizer of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


def find_twins(fingerprints: Sequence[Fingerprint]) -> list[Twins]:
    """Pairs of recordings that share half of the smaller one's events or more, in order of position."""
    known = [len(one.hashes) for one in fingerprints]
    if not sum(known):
        return []
    hashes = np.concatenate([one.hashes for one in fingerprints])
    owners = np.repeat(np.arange(len(fingerprints)), known)
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    common: Counter[tuple[int, int]] = Counter()
    for group in np.split(owners, np.flatnonzero(np.diff(hashes)) + 1):
        if group.size > 1:
            members = group.tolist()
            common.update(combinations(members, 2) if len(members) <= MOST_COMPARED else pairwise(members))
    pairs = (Twins(a, b, _shared(fingerprints[a], fingerprints[b])) for a, b in sorted(common))
    return [pair for pair in pairs if pair.shared >= SHARED]


def _shared(a: Fingerprint, b: Fingerprint) -> float:
    """The share of the smaller recording's runs that the other one has, estimated."""
    both = np.union1d(a.hashes, b.hashes)[:KEPT]
    alike = np.intersect1d(np.intersect1d(a.hashes, b.hashes), both).size / both.size  # |A and B| / |A or B|
    return min(1.0, alike / (1.0 + alike) * (a.runs + b.runs) / min(a.runs, b.runs))
