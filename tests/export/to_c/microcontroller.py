"""The shipped model on Cortex-M4 and M7 in QEMU, compared with the twin in numpy: every logit; instructions counted.

    python -m tests.export.to_c.microcontroller [RECORDINGS [FOLDER]]

Recordings are ATIS .bin files of a folder, evenly chosen; without one, the bundled ones and noise.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco import models
from neuromoco.events import Recording, read_recording, write_atis
from neuromoco.export.to_c.write import write_sources
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.spiking.network import pack_network
from neuromoco.support.files import files_in
from neuromoco.support.sampling import evenly_spaced

CORES = ("m4", "m7")
MISSING = [name for name in ("make", "arm-none-eabi-gcc", "qemu-system-arm") if shutil.which(name) is None]
AT_ONCE = 50  # recordings of one start of the simulator, whose names a kernel's command line holds
LINE = re.compile(r"answer (\d+) logits ([-\d ]+) instructions (\d+)")


class Found(NamedTuple):
    """What a board says of recordings."""

    logits: NDArray[np.int64]  # [N, classes], sums over the steps
    instructions: NDArray[np.int64]  # [N]


def build(folder: Path, twin: TwinNetwork) -> None:
    """The programs of both cores."""
    write_sources(
        folder, pack_network(twin.graph, twin.header.frames, twin.header.seen.sensor), twin.graph, twin.header
    )
    words = ["make", "-s", *(f"board-{core}.elf" for core in CORES)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # no warning


def on_board(folder: Path, core: str, names: Sequence[str]) -> Found:
    """Recordings in the folder, by their names, on a core."""
    logits, instructions = [], []
    for first in range(0, len(names), AT_ONCE):
        words = ["make", "-s", f"qemu-{core}", f"RECORDINGS={' '.join(names[first : first + AT_ONCE])}"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600)
        for answer, sums, count in LINE.findall(done.stderr + done.stdout):
            logits.append([int(number) for number in sums.split()])
            assert int(answer) == np.argmax(logits[-1])
            instructions.append(int(count))
    return Found(np.array(logits), np.array(instructions))


def noise(count: int) -> list[Recording]:
    """Recordings of noise, of different densities and lengths."""
    rng, recordings = np.random.default_rng(0), []
    for _ in range(count):
        many = int(rng.integers(50, 9000))
        t = np.sort(rng.integers(0, int(rng.integers(1000, 400_000)), many))
        x, y, p = (rng.integers(0, side, many) for side in (34, 34, 2))
        recordings.append(Recording.from_columns(t, x, y, p, width=34, height=34))
    return recordings


def main() -> None:
    """Prints how many logits differ, and the instructions of a recording."""
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    if MISSING:
        sys.exit(f"{', '.join(MISSING)}: not installed; on Debian: apt install gcc-arm-none-eabi qemu-system-arm")
    twin: Any = TwinNetwork(models.model_path(suffix=".loihi"))
    if len(sys.argv) > 2:
        recordings = [read_recording(file) for file in evenly_spaced(files_in([Path(sys.argv[2])]), many)]
    else:
        bundled = [read_recording(path) for path in models.example_paths()]
        recordings = [*bundled, *noise(many - len(bundled))]
    wanted = run(twin.graph, twin.frames(recordings)).logits.sum(0)
    with tempfile.TemporaryDirectory() as place:
        build(Path(place), twin)
        names = [f"{number}.bin" for number in range(len(recordings))]
        for name, recording in zip(names, recordings, strict=True):
            write_atis(Path(place) / name, recording)
        for core in CORES:
            found = on_board(Path(place), core, names)
            differ = np.count_nonzero(found.logits != wanted)
            print(
                f"Cortex-{core.upper()}: {len(found.logits)} recordings, {differ} of {wanted.size} logits differ, "
                f"{found.instructions.min() / 1e6:.1f} to {found.instructions.max() / 1e6:.1f} million instructions, "
                f"median {np.median(found.instructions) / 1e6:.1f}"
            )
            if differ:
                sys.exit(1)


if __name__ == "__main__":
    main()
