"""Readers of event files compared with the peers that read the same file right, in one run: million events per second.

    python -m benchmarks.readers [--millions N]

Files of made-up events are written to a temporary folder. Peers are used where they are installed: faery, evt3,
event_stream, expelliarmus, dv-processing, tonic, pandas. Every pair is first checked to give as many events. The
fastest of rounds in turn, by the clock and, for machines that do other work too, by the time of the processor, that of
the process which reads HDF5, AEDAT4 and MATLAB files included.
"""

from __future__ import annotations

import argparse
import importlib
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.events import Recording, read_recording
from neuromoco.events.writers import WRITERS

WIDTH, HEIGHT = 640, 480
Count = Callable[[Path], int]


def recording(events: int) -> Recording:
    """Events of a moving edge: neighbours in time are neighbours in place."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, events, events))
    x = (t // 700 + rng.integers(0, 30, events)) % WIDTH
    return Recording.from_columns(t, x, rng.integers(0, HEIGHT, events), rng.integers(0, 2, events),
                                  width=WIDTH, height=HEIGHT)  # fmt: skip


def write_dat(path: Path, events: Recording) -> None:
    """Prophesee DAT, version 2."""
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events.t
    words[:, 1] = events.p.astype(np.uint32) << 28 | events.y.astype(np.uint32) << 14 | events.x
    head = f"% Version 2\n% Height {HEIGHT}\n% Width {WIDTH}\n".encode() + bytes([12, 8])
    path.write_bytes(head + words.tobytes())


def write_es(path: Path, events: Recording) -> None:
    """Event Stream, version 2; events are closer than 127 us."""
    raw = np.empty(len(events), [("first", "u1"), ("x", "<u2"), ("y", "<u2")])
    raw["first"] = np.diff(events.t, prepend=0) << 1 | events.p
    raw["x"], raw["y"] = events.x, events.y
    path.write_bytes(b"Event Stream" + bytes([2, 0, 0, 1]) + struct.pack("<HH", WIDTH, HEIGHT) + raw.tobytes())


def write_aedat3(path: Path, events: Recording) -> None:
    """AEDAT 3.1 in packets of 4,096 events."""
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events.x.astype(np.uint32) << 17 | events.y.astype(np.uint32) << 2 | events.p << 1 | 1
    words[:, 1] = events.t
    parts = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS640\r\n#!END-HEADER\r\n"]
    for first in range(0, len(events), 4096):
        some = words[first : first + 4096]
        parts.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, *(len(some),) * 3) + some.tobytes())
    path.write_bytes(b"".join(parts))


def write_aedat2(path: Path, events: Recording) -> None:
    """AEDAT 2.0 of a DVS128: big-endian addresses and times."""
    words = np.empty((len(events), 2), ">u4")
    words[:, 0] = events.y.astype(np.uint32) % 128 << 8 | events.x.astype(np.uint32) % 128 << 1 | events.p
    words[:, 1] = events.t
    path.write_bytes(b"#!AER-DAT2.0\r\n" + words.tobytes())


def write_atis(path: Path, events: Recording) -> None:
    """40 bits an event, as N-MNIST has them."""
    raw = np.zeros((len(events), 5), np.uint8)
    raw[:, 0], raw[:, 1] = events.x % 34, events.y % 34
    t = events.t % (1 << 23)
    raw[:, 2], raw[:, 3], raw[:, 4] = events.p << 7 | t >> 16, t >> 8 & 255, t & 255
    path.write_bytes(raw.tobytes())


def records(events: Recording) -> np.ndarray:
    """One record an event, in Metavision's order."""
    found = np.empty(len(events), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "xypt":
        found[name] = getattr(events, name)
    return found


def write_hdf5(path: Path, events: Recording) -> None:
    """Metavision's layout, packed as h5py does by default."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("CD/events", data=records(events), chunks=(16_384,), compression="gzip", shuffle=True)


def write_npy(path: Path, events: Recording) -> None:
    """Records with names."""
    np.save(path, records(events))


def write_mat(path: Path, events: Recording) -> None:
    """Columns of doubles, as ASL-DVS has them."""
    from scipy.io import savemat

    names = {"ts": events.t, "x": events.x % 240, "y": events.y % 180, "pol": events.p}
    savemat(path, {name: column.astype(float)[:, None] for name, column in names.items()}, do_compression=True)


FORMATS: dict[str, Callable[[Path, Recording], None]] = {
    **{name: WRITERS[name] for name in ("evt2", "evt3", "aedat4", "npz", "csv")},
    "dat": write_dat,
    "es": write_es,
    "aedat3": write_aedat3,
    "aedat2": write_aedat2,
    "atis": write_atis,
    "hdf5": write_hdf5,
    "npy": write_npy,
    "mat": write_mat,
}
ENDINGS = {"evt2": ".raw", "evt3": ".raw", "atis": ".bin", "hdf5": ".h5", "aedat2": ".aedat"}


def _faery(path: Path) -> int:
    import faery

    return len(np.concatenate(list(faery.events_stream_from_file(path))))


def _expelliarmus(encoding: str) -> Count:
    def count(path: Path) -> int:
        import expelliarmus

        return len(expelliarmus.Wizard(encoding=encoding).read(path))

    return count


def _evt3(path: Path) -> int:
    import evt3

    return len(evt3.decode_file(str(path)).timestamp)


def _event_stream(path: Path) -> int:
    import event_stream

    return sum(len(part) for part in event_stream.Decoder(str(path)))


def _aedat(path: Path) -> int:
    import aedat

    return len(np.concatenate([packet["events"] for packet in aedat.Decoder(str(path)) if "events" in packet]))


def _dv_processing(path: Path) -> int:
    import dv_processing

    capture, found = dv_processing.io.MonoCameraRecording(str(path)), []
    while capture.isRunning() and (batch := capture.getNextEventBatch()) is not None:
        found.append(batch.numpy())
    return len(np.concatenate(found))


def _tonic(path: Path) -> int:
    from tonic.io import read_mnist_file

    return len(read_mnist_file(str(path), np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])))


def _h5py(path: Path) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        return _columns(file["CD/events"][:])


def _scipy(path: Path) -> int:
    from scipy.io import loadmat

    arrays = loadmat(path)
    return min(arrays[name].size for name in ("ts", "x", "y", "pol"))


def _columns(events: np.ndarray) -> int:
    """Records as columns that lie in one piece, as they are for whoever counts them into frames."""
    return len([np.ascontiguousarray(events[name]) for name in "txyp"].pop())


def _pandas(path: Path) -> int:
    import pandas

    return len(pandas.read_csv(path, dtype={"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.int8}))


def _numpy(path: Path) -> int:
    if path.suffix == ".csv":
        return len(np.loadtxt(path, np.int64, delimiter=",", skiprows=1))
    if path.suffix == ".npy":
        return _columns(np.load(path))
    with np.load(path) as arrays:
        return min(arrays[name].size for name in "txyp")


PEERS: dict[str, dict[str, Count]] = {
    "evt2": {"faery": _faery, "expelliarmus": _expelliarmus("evt2")},
    "evt3": {"faery": _faery, "evt3": _evt3},
    "dat": {"faery": _faery, "expelliarmus": _expelliarmus("dat")},
    "es": {"faery": _faery, "event_stream": _event_stream},
    "aedat4": {"aedat": _aedat, "dv_processing": _dv_processing},
    "atis": {"tonic": _tonic},
    "hdf5": {"h5py": _h5py},
    "npy": {"numpy": _numpy},
    "mat": {"scipy": _scipy},
    "csv": {"numpy": _numpy, "pandas": _pandas},
    "npz": {"numpy": _numpy},
}


def peers_of(name: str, path: Path, events: int) -> dict[str, Count]:
    """The peers that are installed and find as many events."""
    found = {}
    for peer, count in PEERS.get(name, {}).items():
        try:
            importlib.import_module(peer)
            if count(path) == events:
                found[peer] = count
            else:
                print(f"    {peer} finds another number of events in {name}")
        except Exception as error:  # whatever a peer raises, it does not read the file
            print(f"    {peer}: {type(error).__name__}")
    return found


def processor_seconds() -> float:
    """Of this process and its children so far; Linux only."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    clocks = (~int(child) << 3 | 2 for child in children)  # as clock_getcpuclockid
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def fastest(works: list[Callable[[], object]], runs: int = 9) -> list[tuple[float, float]]:
    """Seconds of each work, done in turn, by the clock and by the processor."""
    found: list[list[tuple[float, float]]] = [[] for _ in works]
    for _ in range(runs):
        for work, times in zip(works, found, strict=True):
            begin, used = time.perf_counter(), processor_seconds()
            work()
            times.append((time.perf_counter() - begin, processor_seconds() - used))
    return [(min(wall for wall, _ in times), min(used for _, used in times)) for times in found]


def main() -> None:
    """Prints a row a format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=2.0, help="of events a file")
    events = recording(int(parser.parse_args().millions * 1e6))
    with tempfile.TemporaryDirectory() as folder:
        for name, write in FORMATS.items():
            path = Path(folder) / f"made{ENDINGS.get(name, '.' + name)}"
            write(path, events)
            assert len(read_recording(path)) == len(events)
            peers = peers_of(name, path, len(events))
            works: list[Any] = [lambda p=path: read_recording(p), *(lambda p=path, c=c: c(p) for c in peers.values())]
            speeds = [(len(events) / wall / 1e6, len(events) / used / 1e6) for wall, used in fastest(works)]
            beside = ", ".join(f"{peer} {wall:.1f}" for peer, (wall, _) in zip(peers, speeds[1:], strict=True))
            (wall, used), best = speeds[0], [max(column, default=0.0) for column in zip(*speeds[1:], strict=True)]
            ratio = f"{wall / best[0]:5.2f} x the best, {used / best[1]:5.2f} by processor time" if best else "no peer"
            print(f"{name:8} {wall:7.1f} M events/s   {ratio}   {beside}", flush=True)


if __name__ == "__main__":
    main()
