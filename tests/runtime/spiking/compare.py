"""`spiking.c` compiled with all warnings and checks, compared with the twin in numpy: every spike, every logit.

python -m tests.runtime.spiking.compare [NETWORKS]
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.errors import NeuromocoError
from neuromoco.runtime.loihi.blocks import LARGEST_MESSAGE, LoihiGraph
from neuromoco.runtime.loihi.twin import check_readout, run
from neuromoco.runtime.spiking import SOURCES
from neuromoco.runtime.spiking.network import PackedNetwork, pack_network
from tests.runtime.spiking.graphs import random_graph

DRIVER = Path(__file__).with_name("run_network.c")
HOME = SOURCES[0].parent
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
CHECKED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LEVELS = ("-O0", "-O3")
FAILURES = (-7, -8)  # a drive, or the readout, beyond its range


def _has_sanitizers(compiler: str) -> bool:
    """Whether a compiler is installed with the libraries of its sanitizers."""
    if shutil.which(compiler) is None:
        return False
    words = [compiler, *CHECKED, "-x", "c", "-o", os.devnull, "-"]
    return subprocess.run(words, input=b"int main(void) { return 0; }", capture_output=True).returncode == 0


COMPILERS = tuple(filter(_has_sanitizers, ("gcc", "clang")))


def compile_program(out: Path, compiler: str, flags: tuple[str, ...], *units: Path, runtime: Path = HOME) -> Path:
    """A program of some C files and the runtime in a folder; all warnings are errors."""
    words = [compiler, *STRICT, *flags, f"-I{runtime}", "-o", str(out), *map(str, units), str(runtime / "spiking.c")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return out


@functools.cache
def checked_driver(compiler: str, level: str) -> Path:
    """`run_network.c` with the sanitizers of a compiler."""
    folder = Path(tempfile.mkdtemp(prefix="run_network"))
    return compile_program(folder / "run_network", compiler, (level, *CHECKED), DRIVER)


def compare(graph: LoihiGraph, frames: NDArray[Any], driver: Path, folder: Path) -> str | None:
    """What differs between a program's and the twin's results for frames [T, N, P, H, W]; None if nothing does."""
    steps, batch = frames.shape[:2]
    packed = pack_network(graph, FrameConfig(steps=steps, height=frames.shape[3], width=frames.shape[4]))
    network, counts, out = (folder / name for name in ("network", "frames", "out"))
    network.write_bytes(packed.content)
    counts.write_bytes(np.minimum(frames, LARGEST_MESSAGE).astype(np.uint8).swapaxes(0, 1).tobytes())
    done = subprocess.run([str(driver), str(network), str(counts), str(out)], capture_output=True, text=True)
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr[-2000:]}"
    found = np.fromfile(out, np.int32)
    try:
        twin = run(graph, frames, keep=lambda _: True)
        check_readout(twin.logits, graph.readout.neuron.v_threshold)
    except NeuromocoError:
        return None if _failed(found, _size(graph, packed, steps * batch)) else "no error"
    if found.size != _size(graph, packed, steps * batch):
        return f"an error: {found[-1]}"
    return _difference(graph, packed, found.reshape(batch, steps, -1), twin)


def _widths(graph: LoihiGraph, packed: PackedNetwork) -> Iterator[tuple[str, int]]:
    """Words of spikes by block, of those that the runtime computes, in its order; the readout is not among them."""
    numbers = {packed.sources[block.name]: block for block in graph.blocks[1:-1][::-1]}
    for number in range(1, packed.sources[graph.readout.name][0]):
        channels, rows, columns = numbers[(number,)].shape
        yield numbers[(number,)].name, rows * columns * -(-channels // 32)


def _size(graph: LoihiGraph, packed: PackedNetwork, steps: int) -> int:
    return steps * (sum(width for _, width in _widths(graph, packed)) + graph.readout.neurons)


def _failed(found: NDArray[np.int32], size: int) -> bool:
    """Whether a recording ended early, with a status."""
    return found.size < size or found[-1] in FAILURES


def _difference(graph: LoihiGraph, packed: PackedNetwork, found: NDArray[np.int32], twin: Any) -> str | None:
    widths = dict(_widths(graph, packed))
    ends = list(itertools.accumulate(widths.values(), initial=0))
    spikes = {
        packed.sources[name][0]: _unpacked(found[:, :, begin:end], graph[name].shape)
        for (name, _), begin, end in zip(widths.items(), ends[:-1], ends[1:], strict=True)
    }
    for name, wanted in twin.spikes.items():
        # What it passes on is the sum of what the runtime computed; counts are those that were given.
        computed = [spikes[number] for number in packed.sources[name] if number]
        counts = [twin.spikes[graph.port.name] for number in packed.sources[name] if not number]
        if not np.array_equal(sum([*computed, *counts]), wanted):
            return f"{name}: {np.count_nonzero(sum([*computed, *counts]) != wanted)} of {wanted.size} spikes"
    sums = np.cumsum(twin.logits, axis=0).swapaxes(0, 1)
    return None if np.array_equal(found[:, :, ends[-1] :], sums) else "logits"


def _unpacked(words: NDArray[np.int32], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Spikes [T, N, C, H, W] from words [N, T, ...]."""
    channels, rows, columns = shape
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    spikes = bits.reshape(*words.shape[:2], rows, columns, -1)[..., :channels]
    return spikes.transpose(1, 0, 4, 2, 3).astype(np.float32)


def main() -> None:
    """Compares many random networks with every compiler that is installed."""
    networks = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    problems = errors = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(networks):
            graph, frames = random_graph(seed)
            for compiler, level in itertools.product(COMPILERS, LEVELS):
                problem = compare(graph, frames, checked_driver(compiler, level), Path(folder))
                if problem:
                    problems += 1
                    print(f"network {seed}, {compiler} {level}: {problem}")
            errors += _is_out_of_range(graph, frames)
    print(
        f"{networks} networks, {' and '.join(COMPILERS)} at {' and '.join(LEVELS)} with sanitizers: {problems} "
        f"problems, {errors} networks leave the range of the hardware, as the twin says too"
    )
    sys.exit(bool(problems))


def _is_out_of_range(graph: LoihiGraph, frames: NDArray[Any]) -> bool:
    try:
        check_readout(run(graph, frames).logits, graph.readout.neuron.v_threshold)
    except NeuromocoError:
        return True
    return False


if __name__ == "__main__":
    main()
