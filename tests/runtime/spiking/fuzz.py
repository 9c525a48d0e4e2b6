"""Random events, files and calls for the runtime in C and the program around it, under the sanitizers.

    python -m tests.runtime.spiking.fuzz [SECONDS [SEED]]

Four small networks share the time: slices by count and by time, a part of the sensor and all of it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from neuromoco.config import FrameConfig
from neuromoco.export.to_c.write import TEMPLATE, write_sources
from neuromoco.runtime.spiking import SOURCES
from neuromoco.runtime.spiking.network import pack_network
from tests.helpers.networks import export_header
from tests.runtime.spiking.compare import CHECKED, COMPILERS, compile_program
from tests.runtime.spiking.graphs import random_graph

PROGRAM = Path(__file__).with_name("fuzz_events.c")
DEFAULTS = ("600", "1")  # seconds, seed
SLICES, CROPS = ("count", "time"), (None, (3, 5, 20, 17))


def fuzz(folder: Path, seed: int, runtime: Path = SOURCES[0].parent, **frames: Any) -> tuple[Path, Path]:
    """A program and the network that it opens, built in a folder: a random network for frames of these settings."""
    graph, _ = random_graph(seed)
    config = FrameConfig(steps=7, height=graph.port.shape[1], width=graph.port.shape[2], **frames)
    packed = pack_network(graph, config, (30, 40))
    names = tuple(map(str, range(graph.readout.neurons)))
    header = export_header(7, 9, class_names=names, target="c").model_copy(update={"frames": config})
    write_sources(folder, packed, graph, header)
    (folder / "network").write_bytes(packed.content)
    flags = ("-O1", *CHECKED, f"-I{folder}", f"-I{TEMPLATE}")
    units = (PROGRAM, folder / "network.c")
    return compile_program(folder / "fuzz", COMPILERS[0], flags, *units, runtime=runtime), folder / "network"


def main() -> None:
    """Runs the networks one after the other; ends with the first finding."""
    seconds, seed = (int(word) for word in (*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :]))
    kinds = list(itertools.product(SLICES, CROPS))
    for number, (slice_by, crop) in enumerate(kinds):
        with tempfile.TemporaryDirectory() as place:
            program, network = fuzz(Path(place), seed + number, slice_by=slice_by, crop=crop)
            words = [str(program), str(network), str(seconds // len(kinds)), str(seed)]
            done = subprocess.run(words, capture_output=True, text=True)
        print(f"slices by {slice_by}, crop {crop}: {done.stdout.strip() or done.stderr[:3000]}", flush=True)
        if done.returncode:
            sys.exit(1)


if __name__ == "__main__":
    main()
