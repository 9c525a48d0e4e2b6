"""The integer twin: what Lava's fixed-point simulator computes, spike for spike, for many recordings at once.

It needs numpy only, and computes layer by layer, all steps and recordings at once: latency, relays and resets only
shift this in time. Sums of whole numbers below 2^24 are exact in float32, in any order, so BLAS computes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import NeuromocoError
from neuromoco.runtime.loihi.blocks import (
    FULL_DECAY,
    LARGEST_DRIVE,
    LARGEST_MEMBRANE,
    LARGEST_MESSAGE,
    Integers,
    LoihiAttention,
    LoihiBlock,
    LoihiConv,
    LoihiGraph,
    Pair,
    Port,
    Relay,
    conv_shape,
)
from neuromoco.runtime.prediction import Floats
from neuromoco.snn.loihi_ranges import UNIT

EXACT = 1 << 24  # float32 holds every whole number up to here
COLUMNS = 1 << 22  # numbers in unfolded windows that are in memory at once


@dataclass
class Run:
    """What a network computed for N recordings of T steps.

    Attributes:
        logits: whole numbers [T, N, classes] that each step adds to the readout's membranes / 64.
        spikes: float32 whole numbers [T, N, C, H, W] by block, without the readout.
        saturated: number of membranes that were clipped at 24 bits, by block.
        cut_counts: number of event counts above 255, which are cut to 255.
    """

    logits: Integers
    spikes: dict[str, Floats] = field(default_factory=dict)
    saturated: dict[str, int] = field(default_factory=dict)
    cut_counts: int = 0


def run(graph: LoihiGraph, frames: NDArray[Any], *, keep: Callable[[str], bool] = lambda _: False) -> Run:
    """Runs recordings from rest.

    Args:
        graph: the network.
        frames: event counts [T, N, P, H, W].
        keep: whether the spikes of a block of this name are part of the result.

    Raises:
        NeuromocoError: a drive or the readout leaves the range of the hardware.
    """
    steps, batch = frames.shape[:2]
    counts = np.minimum(frames, LARGEST_MESSAGE).astype(np.float32).reshape(steps * batch, *frames.shape[2:])
    result = Run(np.empty(0, np.int32), cut_counts=int((frames > LARGEST_MESSAGE).sum()))
    values: dict[str, Floats] = {}
    last_use = {name: block.name for block in graph.blocks for name in block.inputs}
    for block in graph.blocks:
        x = counts if isinstance(block, Port) else sum(values[name] for name in block.inputs)
        if block is graph.readout:
            result.logits = _readout(block, graph, x).reshape(steps, batch, -1)
            break
        values[block.name], result.saturated[block.name] = spikes_of(block, graph, x, steps)
        if keep(block.name):
            result.spikes[block.name] = values[block.name].reshape(steps, batch, *block.shape)
        for name in block.inputs:
            if last_use[name] == block.name:
                values.pop(name, None)
    return result


def spikes_of(block: LoihiBlock, graph: LoihiGraph, x: Any, steps: int) -> tuple[Floats, int]:
    """Spikes [T * N, C, H, W] of a block from the sum of its inputs, and the number of membranes that were clipped.

    Raises:
        NeuromocoError: a drive leaves the range of the hardware.
    """
    if isinstance(block, LoihiConv):
        return _fire(block, convolve(block, x, graph.largest_input(block)), steps)
    if isinstance(block, LoihiAttention):
        return _fire(block, attend(block, x), steps)
    assert isinstance(block, Port | Relay)
    return x, 0


def _fire(block: LoihiConv | LoihiAttention, drive: Floats, steps: int) -> tuple[Floats, int]:
    """Neurons driven by a [T * N, C, H, W], from rest; the equation is in `blocks`."""
    _check_drive(block.name, drive)
    bias: Any = 0.0
    if isinstance(block, LoihiConv) and block.bias is not None:
        bias = UNIT * block.bias.astype(np.float64).reshape(-1, 1, 1)  # [C, 1, 1]
    drives = drive.reshape(steps, -1, *block.shape)  # [T, N, C, H, W]
    spikes, clipped = np.empty(drives.shape, np.float32), 0
    v = np.zeros(drives.shape[1:])
    keep = (FULL_DECAY - block.neuron.v_decay) / FULL_DECAY  # exact, as are products with 24 bits in float64
    for t, a in enumerate(drives):
        np.trunc(v * keep, out=v)
        v += UNIT * a.astype(np.float64) + bias
        if v.size and max(v.max(), -v.min()) > LARGEST_MEMBRANE:
            clipped += int((np.abs(v) > LARGEST_MEMBRANE).sum())
            v.clip(-LARGEST_MEMBRANE, LARGEST_MEMBRANE, out=v)
        fired = v > UNIT * block.neuron.v_threshold
        spikes[t] = fired
        v[fired] = 0.0
    return spikes.reshape(drive.shape), clipped


def _readout(block: LoihiConv, graph: LoihiGraph, x: Any) -> Integers:
    drive = convolve(block, x, graph.largest_input(block))
    _check_drive(block.name, drive)
    added = drive.reshape(len(drive), -1).astype(np.int32)
    return added if block.bias is None else added + block.bias


def check_readout(logits: Integers, threshold: int) -> None:
    """Checks that the sums of logits [T, N, classes] over time stay below the readout's threshold.

    Raises:
        NeuromocoError: they do not.
    """
    sums = np.cumsum(logits.astype(np.int64), axis=0)
    # Below -threshold a membrane would be clipped at 24 bits; above, the neuron would fire and be reset.
    if sums.size and (sums.max() > threshold or sums.min() < -threshold):
        raise NeuromocoError(
            f"the readout adds up to {int(np.abs(sums).max())}, and holds {threshold}: "
            "export again with such recordings in --data"
        )


def _check_drive(name: str, drive: Floats) -> None:
    if drive.size and max(drive.max(), -drive.min()) >= LARGEST_DRIVE:
        raise NeuromocoError(
            f"{name}: a drive of {np.abs(drive).max():.0f}; Loihi's current holds less than {LARGEST_DRIVE}: "
            "use fewer events per step, or a narrower layer"
        )


def convolve(block: LoihiConv, x: Floats, largest: int) -> Floats:
    """Exact weighted sums a [B, O, h, w] of whole numbers x [B, I, H, W] of 0 to `largest`."""
    weight = block.weight
    most = largest * int(np.abs(weight).reshape(len(weight), -1).sum(1).max())
    kind: Any = np.float32 if most < EXACT else np.float64
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in block.padding)))
    _, rows, columns = conv_shape(x.shape[1:], len(weight), block.kernel, block.stride, block.padding, block.dilation)
    windows = _windows(padded, block.kernel, block.stride, block.dilation, (rows, columns))  # [B, I, kh, kw, h, w]
    grouped = weight.reshape(block.groups, -1, weight[0].size).astype(kind)  # [G, O / G, I / G * kh * kw]
    out = np.empty((len(x), len(weight), rows * columns), np.float32)
    few = max(1, COLUMNS // max(1, windows[0].size))
    for start in range(0, len(x), few):
        chunk = windows[start : start + few]
        unfolded = chunk.reshape(len(chunk), block.groups, -1, rows * columns).astype(kind, copy=False)
        out[start : start + few] = (grouped @ unfolded).reshape(len(chunk), len(weight), -1)
    return out.reshape(len(x), len(weight), rows, columns)


def _windows(x: Floats, kernel: Pair, stride: Pair, dilation: Pair, sides: Pair) -> Floats:
    """A view [B, I, kh, kw, h, w] of padded values [B, I, H, W]."""
    batch, channel, row, column = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *kernel, *sides),
        (batch, channel, row * dilation[0], column * dilation[1], row * stride[0], column * stride[1]),
        writeable=False,
    )


def attend(block: LoihiAttention, x: Floats) -> Floats:
    """a [B, C, H, W] from the spikes of queries, keys and values [B, 3 C, H, W]."""
    channels, *sides = block.shape
    heads = x.reshape(len(x), 3, block.heads, channels // block.heads, -1)
    q, k, v = heads.swapaxes(0, 1)  # [B, heads, C / heads, L]
    product: Any = (v @ k.swapaxes(-1, -2)) @ q  # small whole numbers: exact
    product *= block.gain
    drive: Floats = product.reshape(len(x), channels, *sides)
    return drive
