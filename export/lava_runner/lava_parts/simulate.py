"""One run of a network through all recordings, back to back."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.source import RingBuffer
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from lava_parts import ending
from lava_parts.errors import LavaFailedError, UnusableFileError
from lava_parts.guard import Guard, end_parts
from lava_parts.processes.network import ExtendedNetwork
from lava_parts.processes.recorder import Recorder


@dataclass(frozen=True)
class Answer:
    """What a run gave.

    Attributes:
        logits: integers.  # [N, classes]
        spikes: by layer, if they were asked for.  # [T, N, C, H, W]
        steps: time steps of the network.
        seconds: that they took, without building.
    """

    logits: NDArray[np.int64]
    spikes: dict[int, NDArray[np.uint8]]
    steps: int
    seconds: float


@dataclass(frozen=True)
class Layers:
    """A network and its blocks, one a layer but the input.

    Attributes:
        network: Lava's Process.
        blocks: by layer number.
        depths: by layer number, blocks from the input on, itself included: each costs one time step.
    """

    network: Any
    blocks: dict[int, Any]
    depths: dict[int, int]


def load(path: Path, manifest: dict[str, Any]) -> Layers:
    """Builds the network of a file, by Lava's own reader where that suffices.

    Raises:
        UnusableFileError: a file that is missing, damaged, of another dialect or of another export.
    """
    if not path.is_file():
        raise UnusableFileError(f"{path}: no such file")
    reader = hdf5.Network if manifest["dialect"] == "stock" else ExtendedNetwork
    try:
        network = reader(
            str(path),
            # Without message bits Lava takes counts as true or false.
            input_message_bits=manifest["input"]["message_bits"],
            reset_interval=manifest["reset"]["interval"],
            reset_offset=manifest["reset"]["offset"],
        )
    except Exception as error:  # of h5py, numpy and Lava, by what is wrong with the file
        raise UnusableFileError(
            f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None
    network.net_config.f.close()  # Lava never does
    if isinstance(network, ExtendedNetwork):
        layers = Layers(network, network.blocks, network.depths)
    else:
        chain = dict(enumerate(network.layers, start=1))
        layers = Layers(network, chain, {number: number for number in chain})
    _compare(path, layers, manifest)
    return layers


def _compare(path: Path, layers: Layers, manifest: dict[str, Any]) -> None:
    """Refuses a network that is not the manifest's: results would be read at the wrong place or time."""
    told = {layer["index"]: layer["depth"] for layer in manifest["layers"] if layer["kind"] != "input"}
    if told != layers.depths:
        raise UnusableFileError(f"{path}: its layers are not those of manifest.json")
    readout = manifest["readout"]["layer"]
    if layers.depths.get(readout) != manifest["latency"]:
        raise UnusableFileError(f"{path}: layer {readout} is no readout after {manifest['latency']} blocks")
    classes = int(np.prod(layers.blocks[readout].out.shape))
    if classes != len(manifest["class_names"]):
        raise UnusableFileError(f"{path}: {classes} classes, but manifest.json names {len(manifest['class_names'])}")


def simulate(
    folder: Path, manifest: dict[str, Any], frames: NDArray[np.uint8], *, taps: bool, patience: float
) -> Answer:
    """Runs a network.

    Args:
        folder: where the network file lies.
        manifest: of the export.
        frames: event counts.  # [T, N, P, H, W]
        taps: whether to record all spikes.
        patience: seconds that a recording may take.

    Raises:
        UnusableFileError: see `load`.
        LavaFailedError: a part of the network died, or nothing moves.
    """
    layers = load(folder / manifest["net"], manifest)
    with ending.scratch() as scratch:
        _feed(layers.network, frames, manifest["latency"])
        tapped = [number for number in layers.blocks if taps and number != manifest["readout"]["layer"]]
        steps = frames.shape[0] * frames.shape[1] + manifest["latency"]
        for number in tapped:
            _record(layers.blocks[number], scratch / f"{number}.npy", steps)
        logits, seconds = _run(layers, manifest, frames.shape[:2], patience)
        spikes = {n: _aligned(scratch / f"{n}.npy", layers.depths[n], frames.shape[:2]) for n in tapped}
    return Answer(logits, spikes, steps, seconds)


def _feed(network: Any, frames: NDArray[np.uint8], latency: int) -> None:
    """Connects a source that sends the recordings one after the other, then nothing until the last is through."""
    steps, number, *sides = frames.shape
    stream = frames.swapaxes(0, 1).reshape(number * steps, *sides)  # [N * T, P, H, W]
    silence = np.zeros((latency, *sides), dtype=np.uint8)
    data = np.concatenate([stream, silence]).transpose(3, 2, 1, 0).astype(np.int32)  # [W, H, P, time]
    RingBuffer(data=data).s_out.connect(network.inp)


def _record(block: Any, path: Path, steps: int) -> None:
    """Connects a recorder to a block."""
    shape = tuple(int(side) for side in block.out.shape)
    open_memmap(path, mode="w+", dtype=np.uint8, shape=(steps, *shape)).flush()
    block.out.connect(Recorder(shape=shape, path=str(path)).a_in)


def _aligned(path: Path, depth: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What was recorded, by the input step that it belongs to; size is (T, N).  # [T, N, C, H, W]"""
    steps, number = size
    stream = np.load(path)[depth : depth + steps * number]  # [N * T, W, H, C]
    return stream.reshape(number, steps, *stream.shape[1:]).transpose(1, 0, 4, 3, 2).copy()


def _run(
    layers: Layers, manifest: dict[str, Any], size: tuple[int, int], patience: float
) -> tuple[NDArray[np.int64], float]:
    """Runs to the end of each recording and reads the membranes of the readout there; size is (T, N)."""
    steps, number = size
    readout = layers.blocks[manifest["readout"]["layer"]]
    logits = np.zeros((number, len(manifest["class_names"])), dtype=np.int64)
    config = Loihi2SimCfg(select_tag="fixed_pt")
    try:
        with Guard(patience) as guard:
            layers.network.create_runtime(run_cfg=config)
            start = time.perf_counter()
            for n in range(number):
                guard.moved()
                # The first recording takes longer by the way to the readout; from then on one ends every T steps.
                layers.network.run(RunSteps(num_steps=steps if n else steps + manifest["latency"]), run_cfg=config)
                membrane = readout.neuron.v.get().reshape(-1).astype(np.int64)  # [classes]
                logits[n] = membrane >> 6  # Lava keeps 6 bits below the point, all 0 here
            seconds = time.perf_counter() - start
            guard.moved()
            guard.ending()
            layers.network.stop()
    except BaseException as error:
        end_parts(layers.network)
        if isinstance(error, LavaFailedError) or not isinstance(error, Exception):
            raise
        traceback.print_exc()
        raise LavaFailedError(f"Lava: {str(error) or type(error).__name__}") from error
    return logits, seconds
