"""Frames and cached samples compared with tonic and SpikingJelly.

    python -m benchmarks.events

SpikingJelly is there with the extra `train`. tonic is not installed with neuromoco; where it is missing, that is said.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import spikingjelly

from benchmarks.timing import paired, report
from neuromoco.config import FrameConfig
from neuromoco.datasets import cached_frames, list_recordings
from neuromoco.events import Recording, write_npz
from neuromoco.frames import SliceBy, to_frames

STEPS = 16
SIDE = 128
EVENTS = 1_000_000
SAMPLES = 48
# Sides and events of the cached recordings: those of N-MNIST and of CIFAR10-DVS.
SETS = {"4 x 34 x 34": (4, 34, 4_000), "16 x 128 x 128": (16, 128, 200_000)}
# Peers put the border between two slices of time up to STEPS us elsewhere.
ELSEWHERE = 1e-3


def tonic() -> Any:
    """tonic, or None where it is not installed."""
    try:
        return import_module("tonic")
    except ImportError:
        return None


def spikingjelly_frames() -> Callable[..., Any]:
    """`integrate_events_by_fixed_frames_number`, without the rest of its package, which wants a matching torchaudio."""
    package = ModuleType("spikingjelly.datasets")
    package.__path__ = [str(Path(spikingjelly.__file__).parent / "datasets")]
    sys.modules[package.__name__] = package
    return import_module("spikingjelly.datasets.utils").integrate_events_by_fixed_frames_number


def make_recording(seed: int, side: int, events: int) -> Recording:
    """Events all over a sensor, at random times of a second."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 1_000_000, events))
    x, y = rng.integers(0, side, (2, events))
    return Recording.from_columns(t, x, y, rng.integers(0, 2, events), width=side, height=side)


def rows(recording: Recording) -> np.ndarray:
    """A structured array, as tonic takes events."""
    array = np.empty(len(recording), [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int16)])
    for name in "xytp":
        array[name] = getattr(recording, name)
    return array


def check(ours: np.ndarray, theirs: np.ndarray, by: SliceBy) -> None:
    """Whether both counted the same."""
    differ = np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).sum() / ours.sum()
    assert differ <= (0 if by == "count" else ELSEWHERE), f"{differ:.2%} of the events lie elsewhere"


def frames() -> None:
    """Frames from a million events, cut both ways."""
    recording = make_recording(0, SIDE, EVENTS)
    columns = {name: getattr(recording, name) for name in "txyp"}
    integrate, peer = spikingjelly_frames(), tonic()
    structured = rows(recording)
    modes: tuple[tuple[SliceBy, str, str], ...] = (
        ("count", "number", "n_event_bins"),
        ("time", "time", "n_time_bins"),
    )
    for by, split_by, bins in modes:
        what = f"frames by {by}, 1 M events, {STEPS} x {SIDE} x {SIDE}"

        def ours(by: SliceBy = by) -> np.ndarray:
            return to_frames(recording, STEPS, by)

        def theirs(split_by: str = split_by) -> np.ndarray:
            return integrate(columns, split_by, STEPS, SIDE, SIDE)

        check(ours(), theirs(), by)
        report(what, "spikingjelly", paired(ours, theirs))
        if peer is not None:
            transform = peer.transforms.ToFrame((SIDE, SIDE, 2), **{bins: STEPS})
            check(ours(), transform(structured), by)
            report(what, "tonic", paired(ours, lambda transform=transform: transform(structured)))


def cached() -> None:
    """Loading one sample after another, all of them once, from caches that have been filled."""
    peer = tonic()
    assert peer is not None
    for what, (steps, side, events) in SETS.items():
        recordings = [make_recording(seed, side, events) for seed in range(SAMPLES)]
        with tempfile.TemporaryDirectory() as place:
            os.environ["NEUROMOCO_CACHE"] = place
            for number, recording in enumerate(recordings):
                write_npz(Path(place) / "data" / f"{number:03d}.npz", recording)
            config = FrameConfig(steps=steps, height=side, width=side)
            store = cached_frames(list_recordings(Path(place) / "data", labelled=False), config)
            transform = peer.transforms.ToFrame((side, side, 2), n_event_bins=steps)
            made = [(transform(rows(recording)), 0) for recording in recordings]
            disk = peer.DiskCachedDataset(made, f"{place}/tonic")

            def ours(store: Any = store) -> np.ndarray:
                return [np.array(store.frames[i]) for i in range(SAMPLES)][-1]

            def theirs(disk: Any = disk) -> np.ndarray:
                return [disk[i][0] for i in range(SAMPLES)][-1]

            check(ours(), theirs(), "count")
            report(f"{SAMPLES} cached samples, {what}", "tonic", paired(ours, theirs))


def main() -> None:
    """Prints one line a comparison."""
    print(f"{os.cpu_count()} cores; medians, ratio peer / ours")
    if tonic() is None:
        print("tonic is not installed: pip install tonic, in an environment of its own, to compare with it")
    frames()
    if tonic() is not None:
        cached()


if __name__ == "__main__":
    main()
