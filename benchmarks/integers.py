"""The integer network in C: whether it equals the twin in numpy, how fast it is, and how it compares with ONNX Runtime.

    python -m benchmarks.integers --data FOLDER [--recordings N]
    python -m benchmarks.integers --networks [--steps T]

With --data, the shipped model classifies all recordings of a folder, or N of them: every logit of the compiled
runtime is compared with the twin's. With --networks, encoders are timed beside ONNX Runtime with one thread, on the
same frames, one recording a call: small ones with 34 x 34 pixels, big ones with 128 x 128, with random weights under
which every layer spikes; each in a process of its own, for its memory. Times are those of a processor, so that other
work on the machine matters less; with OMP_NUM_THREADS=1, numpy has one, too. Some minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from neuromoco import models
from neuromoco.events import read_recording
from neuromoco.frames import batch_frames
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run
from neuromoco.support.files import files_in
from neuromoco.support.sampling import evenly_spaced

AT_ONCE, IN_MEMORY = 50, 500  # recordings of a call, and of which all frames are in memory
STEPS, RUNS = 4, 15
NETWORKS = {
    "chain_tiny": 34,
    "sew_resnet_tiny": 34,
    "spikformer_tiny": 34,
    "sew_resnet18": 128,
    "spikformer_2_256": 128,
}
ONNX, TWIN, FRAMES = "network.onnx", "network.loihi", "frames.npy"


def compare(folder: Path, most: int | None) -> None:
    """Prints how many logits differ, and how long either takes."""
    files = files_in([folder])
    files = evenly_spaced(files, most) if most else files
    twin = TwinNetwork(models.model_path(suffix=".loihi"))
    compiled = twin.compiled
    assert compiled is not None, "no C compiler"
    for at_once in (AT_ONCE, 1):
        seconds, differ, logits = [0.0, 0.0], 0, 0
        for first in range(0, len(files), IN_MEMORY):
            frames = twin.frames([read_recording(file) for file in files[first : first + IN_MEMORY]])
            calls = [frames[:, begin : begin + at_once] for begin in range(0, frames.shape[1], at_once)]
            compiled.logits(calls[0])
            begin = time.process_time()
            found = [compiled.logits(call) for call in calls]
            middle = time.process_time()
            wanted = [run(twin.graph, call).logits for call in calls]
            seconds = [seconds[0] + middle - begin, seconds[1] + time.process_time() - middle]
            for ours, theirs in zip(found, wanted, strict=True):
                logits += theirs.size
                differ += theirs.size if ours is None else int(np.count_nonzero(ours != theirs))
        own, numpy = (1e3 * each / len(files) for each in seconds)
        print(
            f"{len(files):,} recordings, {at_once} a call: {differ} of {logits:,} logits differ; {own:.3f} ms of a "
            f"processor each, numpy {numpy:.2f} ms, {numpy / own:.1f} x"
        )


def write_network(name: str, side: int, steps: int, folder: Path) -> None:
    """A network of random weights as an ONNX file and as a Loihi export, and frames for both."""
    import torch

    from benchmarks.live_networks import CLASSES, live_network
    from neuromoco.checkpoint import CheckpointHeader, SeenRecordings, save_checkpoint
    from neuromoco.config import EncoderConfig, FrameConfig
    from neuromoco.export.targets import export

    recordings = [read_recording(path) for path in models.example_paths()[:4]]
    config = FrameConfig(steps=steps, height=side, width=side)
    frames = batch_frames(recordings, config)
    encoder = EncoderConfig(name=name)
    network = live_network(encoder, torch.from_numpy(frames), seed=0)
    seen = SeenRecordings(count=1, shortest_us=1, longest_us=1, fewest_events=1, most_events=1)
    header = CheckpointHeader(
        kind="classifier", encoder=encoder, frames=config, class_names=tuple(map(str, range(CLASSES))), seen=seen,
        stage="benchmark", epoch=0, seed=0,
    )  # fmt: skip
    save_checkpoint(folder / "network.safetensors", network, header)
    export(folder / "network.safetensors", folder / ONNX, recordings=[])
    export(folder / "network.safetensors", folder / TWIN, target="loihi")
    np.save(folder / FRAMES, frames)


def peak_memory() -> float:
    """MB that this process needed at most; its parent's are not among them, as they are in getrusage's."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def measure(folder: Path, which: str) -> dict[str, float]:
    """Milliseconds a recording, MB that the process grew by, and bytes, of one of the two; in a process of its own."""
    before = peak_memory()
    frames = np.load(folder / FRAMES)
    if which == "onnx":
        from neuromoco.runtime.onnx_file import OnnxNetwork

        network: Any = OnnxNetwork(folder / ONNX, threads=1)
        size = (folder / ONNX).stat().st_size
        work = network.frame_logits
    else:
        twin = TwinNetwork(folder / TWIN)
        assert twin.compiled is not None
        size, work = len(twin.compiled.packed.content), twin.compiled.logits
    ones = [np.ascontiguousarray(frames[:, n : n + 1]) for n in range(frames.shape[1])]
    work(ones[0])
    times = []
    for turn in range(RUNS):
        begin = time.process_time()
        work(ones[turn % len(ones)])
        times.append(time.process_time() - begin)
    figures = {"ms": 1e3 * median(times), "mb": peak_memory() - before, "bytes": size}
    return figures if which == "onnx" else figures | {"ram": twin.compiled.packed.memory}


def networks(steps: int) -> None:
    """Prints a row for every encoder."""
    print("| network, pixels | T | C: ms | RAM | size | ONNX Runtime: ms | memory | size | C is |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, side in NETWORKS.items():
        with tempfile.TemporaryDirectory() as place:
            write_network(name, side, steps, Path(place))
            ours, theirs = (_in_process(place, which) for which in ("c", "onnx"))
        print(
            f"| {name}, {side} x {side} | {steps} | {ours['ms']:.2f} | {ours['ram'] / 1e6:.2f} MB | "
            f"{ours['bytes'] / 1e6:.2f} MB | {theirs['ms']:.2f} | {theirs['mb']:.0f} MB | "
            f"{theirs['bytes'] / 1e6:.2f} MB | {theirs['ms'] / ours['ms']:.1f} x as fast |",
            flush=True,
        )


def _in_process(folder: str, which: str) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.integers", "--measure", folder, which]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Prints what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of recordings")
    parser.add_argument("--recordings", type=int, help="of the folder, evenly chosen; by default all")
    parser.add_argument("--networks", action="store_true", help="time encoders beside ONNX Runtime")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), options.measure[1])))
    if options.data:
        compare(options.data, options.recordings)
    if options.networks:
        networks(options.steps)


if __name__ == "__main__":
    main()
