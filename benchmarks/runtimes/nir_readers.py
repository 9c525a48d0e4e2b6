"""Reads and runs a NIR file in one library; a script, for Pythons that have the library, torch and nir.

    python nir_readers.py LIBRARY FOLDER

The folder has `model.nir` and `frames.bin`, float32 of the shape [T, 1, ...] in `shape.json`.
Writes `spikes.bin`, the float32 output [T, ...], and prints one line of JSON: versions, or why it does not run.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

DT = 1e-4  # seconds a step, as the exporter writes
Run = Callable[[Any], Any]  # frames [T, 1, ...] -> [T, 1, ...]


def stepped(network: Any) -> Run:
    """Runs a network that takes and returns its state, step by step."""

    def run(frames: Any) -> Any:
        state, found = None, []
        for step in frames:
            out, state = network(step, state)
            found.append(out)
        return torch.stack(found)

    return run


def spikingjelly(path: Path) -> Run:
    """Spikingjelly 0.0.0.0.15 and later."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return stepped(import_from_nir(read(path)))


def snntorch(path: Path) -> Run:
    """The reader of snnTorch, of integrate-and-fire neurons too."""
    from snntorch.import_nir import import_from_nir

    network = import_from_nir(read(path))

    def run(frames: Any) -> Any:
        for module in network.modules():
            if hasattr(module, "reset_mem"):
                module.reset_mem()
        return torch.stack([network(step)[0] for step in frames])

    return run


def norse(path: Path) -> Run:
    """Norse, told the time step."""
    import norse.torch as library

    return stepped(library.from_nir(read(path), dt=DT))


def sinabs(path: Path) -> Run:
    """sinabs, whose layers take time and recordings in one axis."""
    from sinabs.nir import from_nir

    network = from_nir(read(path), batch_size=1)

    def run(frames: Any) -> Any:
        out = network(frames.flatten(0, 1))
        out = out[0] if isinstance(out, tuple) else out
        return out.unflatten(0, frames.shape[:2])

    return run


def rockpool(path: Path) -> Run:
    """Rockpool."""
    from rockpool.nn.modules.torch.nir import from_nir

    return stepped(from_nir(read(path)))


def read(path: Path) -> Any:
    """The graph of a file."""
    import nir

    return nir.read(path)


LIBRARIES = {
    "snntorch": snntorch,
    "spikingjelly": spikingjelly,
    "norse": norse,
    "sinabs": sinabs,
    "rockpool": rockpool,
}


def main(name: str, folder: Path) -> dict[str, str]:
    """Runs the frames; what is printed."""
    shape = json.loads((folder / "shape.json").read_text())
    frames = torch.from_numpy(np.fromfile(folder / "frames.bin", np.float32).reshape(shape))
    with torch.no_grad():
        LIBRARIES[name](folder / "model.nir")(frames).numpy().astype(np.float32).tofile(folder / "spikes.bin")
    return {"version": f"{name} {version(name)}, nir {version('nir')}, nirtorch {version('nirtorch')}"}


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            answer = main(sys.argv[1], Path(sys.argv[2]))
        except Exception as error:  # of any library
            answer = {"problem": " ".join(f"{type(error).__name__}: {error}".split())}
    print(json.dumps(answer))
