"""The Loihi path at full width: how long an export takes, and whether Lava does what the integer twin does.

    python -m benchmarks.loihi [--side N] [--recordings N] [--data FOLDER]

SEW-ResNet-18 and Spikformer-2-256 with random weights under which every layer spikes, T = 4. Lava has to be
installed: `make lava`. Some minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.live_networks import CLASSES, live_network, spike_rates
from neuromoco import models
from neuromoco.checkpoint import CheckpointHeader, SeenRecordings, save_checkpoint
from neuromoco.config import EncoderConfig, FrameConfig
from neuromoco.events import Recording, read_recording
from neuromoco.export.exporter import export_header
from neuromoco.export.to_loihi.export import calibrated
from neuromoco.export.to_loihi.report import compare_loihi
from neuromoco.export.to_loihi.verify import verify_folder
from neuromoco.export.to_loihi.write import describe, write_folder
from neuromoco.frames import batch_frames
from neuromoco.graph.trace import lower
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.loihi.twin import run

STEPS = 4
ENCODERS = ("sew_resnet18", "spikformer_2_256")


def checkpoint(name: str, side: int, recordings: list[Recording], folder: Path) -> TrainedClassifier:
    """A classifier of random weights, as a file."""
    frames = FrameConfig(steps=STEPS, height=side, width=side)
    config = EncoderConfig(name=name)
    network = live_network(config, torch.from_numpy(batch_frames(recordings, frames)), seed=0)
    rates = spike_rates(network, torch.from_numpy(batch_frames(recordings, frames))).values()
    print(f"{name}, {side} x {side}, T = {STEPS}: layers spike at {min(rates):.1%} to {max(rates):.1%}")
    seen = SeenRecordings(count=1, shortest_us=1, longest_us=1, fewest_events=1, most_events=1)
    path = folder / f"{name}.safetensors"
    names = tuple(map(str, range(CLASSES)))
    header = CheckpointHeader(
        kind="classifier",
        encoder=config,
        frames=frames,
        class_names=names,
        seen=seen,
        stage="benchmark",
        epoch=0,
        seed=0,
    )
    save_checkpoint(path, network, header)
    return TrainedClassifier(path, "cpu")


def measure(name: str, side: int, files: list[Path], folder: Path) -> None:
    """Prints everything about one encoder."""
    recordings = [read_recording(file) for file in files]
    classifier = checkpoint(name, side, recordings, folder)
    begin = time.perf_counter()
    graph = lower(classifier.network, side, side)
    loihi = calibrated(classifier, graph, recordings)
    header = export_header(classifier, folder / f"{name}.safetensors", "loihi")
    out, frames = folder / name, classifier.frames(recordings)
    out.mkdir()
    write_folder(out, loihi, describe(loihi, "extended", header), frames[:, :1].clip(0, 255).astype("uint8"))
    print(f"exported in {time.perf_counter() - begin:.1f} s: {len(loihi.blocks)} blocks, latency {loihi.latency} steps")
    begin = time.perf_counter()
    run(loihi, frames)
    print(f"twin: {(time.perf_counter() - begin) / len(recordings) * 1e3:.0f} ms a recording")
    compared = compare_loihi(classifier.network, graph, loihi, [frames])
    differ = [layer.differ / layer.compared for layer in compared.layers.values() if layer.source]
    print(f"twin compared with float32: at most {max(differ):.1%} of a layer's spikes and silences differ")
    result = verify_folder(out, files, len(files))
    spikes = sum(layer["spikes"] for layer in result["layers"])
    wrong = sum(layer["differ"] for layer in result["layers"])
    print(
        f"Lava on {result['recordings']} recordings, {result['seconds']:.0f} s: {wrong:,} of {spikes:,} spikes differ "
        f"in {len(result['layers'])} layers, {result['logits_differ']} of {len(files) * CLASSES} logits"
    )


def main() -> None:
    """Prints the figures of both encoders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=34, help="pixels of the frames' sides")
    parser.add_argument("--recordings", type=int, default=2)
    parser.add_argument("--data", type=Path, help="a folder of recordings; by default the bundled ones")
    options = parser.parse_args()
    found = sorted(options.data.rglob("*.bin")) if options.data else models.example_paths()
    files = found[:: max(1, len(found) // options.recordings)][: options.recordings]
    for name in ENCODERS:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, options.side, files, Path(folder))


if __name__ == "__main__":
    main()
