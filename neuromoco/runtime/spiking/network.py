"""An integer network as the bytes that `spiking.c` runs: a head, blocks, and their weights; and the memory it needs.

All numbers are whole, of 4 bytes, the lowest first; weights have one byte. The words of head and blocks have the order
of the enumerations and structures in `spiking.c`. Relays compute nothing here, as no block costs a step: what they pass
on is read where it comes from.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.runtime.loihi.blocks import (
    FULL_DECAY,
    LARGEST_DRIVE,
    OR,
    LoihiAttention,
    LoihiBlock,
    LoihiConv,
    LoihiGraph,
    Port,
    Relay,
)
from neuromoco.snn.loihi_ranges import UNIT
from neuromoco.unsupported import Unsupported, refuse

MAGIC, VERSION = 0x4E534D4E, 1
HEAD_WORDS, BLOCK_WORDS = 19, 28
INPUT, CONVOLUTION, POOL, ATTENTION, READOUT = range(5)
WORD_BITS, WORD_BYTES = 32, 4
LARGEST = (1 << 31) - 1  # of any number
LARGEST_SIDE = (1 << 16) - 1  # of frames
Sensor = tuple[int, int]  # rows and columns


@dataclass(frozen=True)
class Section:
    """A part of a network's bytes, and what it holds, in words."""

    name: str
    content: bytes


@dataclass(frozen=True)
class PackedNetwork:
    """A network as `spiking.c` takes it.

    Attributes:
        sections: its parts, one behind the other.
        memory: bytes that its state needs.
        steps: T of a recording.
        sources: of every block of the graph, the numbers of those whose spikes it sends, itself or as a relay.
    """

    sections: tuple[Section, ...]
    memory: int
    steps: int
    sources: dict[str, tuple[int, ...]]

    @cached_property
    def content(self) -> bytes:
        """The whole."""
        return b"".join(section.content for section in self.sections)


def pack_network(graph: LoihiGraph, frames: FrameConfig, sensor: Sensor | None = None) -> PackedNetwork:
    """The bytes of a network, for recordings that become `frames`.

    Args:
        graph: the network.
        frames: how recordings become frames.
        sensor: rows and columns of the sensor, where the caller names no other; by default the size of the frames.

    Raises:
        UnsupportedLayerError: a block is too large, or not one that a trained network has.
    """
    refuse(list_uncompiled(graph))
    return _Packer(graph, frames, sensor).packed()


def list_uncompiled(graph: LoihiGraph) -> list[Unsupported]:
    """Lists blocks that `spiking.c` cannot compute; none of a network that was exported from a checkpoint is."""
    return [block.refused(reason) for block in graph.blocks for reason in _problems_of(graph, block) if reason]


def _problems_of(graph: LoihiGraph, block: LoihiBlock) -> Iterator[str]:
    if max(graph.port.shape[1:]) > LARGEST_SIDE and isinstance(block, Port):
        yield f"frames of {max(graph.port.shape[1:]):,} pixels; use smaller ones"
    if block is graph.readout and block.shape[1:] != (1, 1):
        yield "a readout with rows and columns; use one neuron per class"
    if isinstance(block, LoihiConv) and graph.largest_input(block) * _largest_sum(block) > LARGEST:
        yield "sums beyond 31 bits; use a narrower layer"
    if isinstance(block, LoihiAttention):
        channels, *sides = block.shape
        if graph.largest_input(block) != 1 or len(block.inputs) != 1:
            yield "attention on values that are not spikes; put neurons before it"
        if block.gain * math.prod(sides) * (channels // block.heads) > LARGEST:
            yield "products beyond 31 bits; use fewer tokens or more heads"


def _largest_sum(block: LoihiConv) -> int:
    """The largest sum of the sizes of a neuron's weights."""
    return int(np.abs(block.weight.astype(np.int64)).reshape(len(block.weight), -1).sum(1).max())


class _Packer:
    """Gives every block its place in the network and in memory."""

    def __init__(self, graph: LoihiGraph, frames: FrameConfig, sensor: Sensor | None) -> None:
        self.graph, self.frames = graph, frames
        left, top, width, height = frames.crop if isinstance(frames.crop, tuple) else (0, 0, 0, 0)
        self.crop = left, top, width, height
        rows, columns = sensor or (frames.height, frames.width)
        self.sensor = max(rows, top + height), max(columns, left + width)
        self.blocks: list[LoihiBlock] = []
        self.inputs: list[tuple[int, ...]] = []
        self.sources: dict[str, tuple[int, ...]] = {}
        for block in graph.blocks:
            arrives = tuple(itertools.chain.from_iterable(self.sources[name] for name in block.inputs))
            if _passes_on(block, graph):
                self.sources[block.name] = arrives
                continue
            self.sources[block.name] = (len(self.blocks),)
            self.blocks.append(block)
            self.inputs.append(arrives)

    def packed(self) -> PackedNetwork:
        """The network."""
        self._place_in_memory()
        begin = WORD_BYTES * (HEAD_WORDS + BLOCK_WORDS * len(self.blocks))
        tables, parts = [], []
        for number, block in enumerate(self.blocks):
            names = _words_of(self.inputs[number]), self._weights(block), self._biases(block)
            places = [begin, begin + len(names[0]), begin + len(names[0]) + len(names[1])]
            content = b"".join(names)
            content += bytes(-len(content) % WORD_BYTES)
            tables.append(
                Section(f"{block.name}: {self._in_words(number)}", self._table(number, places, bool(names[2])))
            )
            if content:
                parts.append(Section(f"{block.name}: inputs, weights, biases", content))
            begin += len(content)
        head = Section("head", self._head(begin))
        return PackedNetwork((head, *tables, *parts), WORD_BYTES * self.words, self.frames.steps, self.sources)

    def _head(self, size: int) -> bytes:
        rows, columns = self.sensor
        numbers = (
            *(MAGIC, VERSION, size, WORD_BYTES * self.words, len(self.blocks)),
            *(self.frames.steps, self.frames.slice_by == "time", *self.crop, columns, rows),
            *(self.graph.readout.neurons, self.sums, self.state, self.state_words, self.drive, self.bias),
        )
        assert len(numbers) == HEAD_WORDS
        return _words_of(numbers)

    def _table(self, number: int, places: Sequence[int], has_bias: bool) -> bytes:
        block, arrives = self.blocks[number], self.inputs[number]
        before = self.blocks[arrives[0]].shape if arrives else (0, 0, 0)
        conv = block if isinstance(block, LoihiConv) else None
        attention = block if isinstance(block, LoihiAttention) else None
        geometry = (conv.kernel, conv.stride, conv.padding, conv.dilation) if conv else ((1, 1),) * 4
        groups = conv.groups if conv else 1
        neuron = getattr(block, "neuron", OR)
        # The readout counts in drives, all others in membranes.
        threshold = neuron.v_threshold * (1 if block is self.graph.readout else UNIT)
        is_dense = groups == 1 and geometry[1][1] == 1 and geometry[3][1] == 1
        numbers = (
            *(self._kind(block), len(arrives), places[0], *block.shape, *before),
            *itertools.chain.from_iterable(geometry),
            *(groups, attention.heads if attention else 1, attention.gain if attention else 1),
            *(threshold, FULL_DECAY - neuron.v_decay, places[1], places[2] if has_bias else 0),
            *(self.membranes[number], self.spikes[number], _open_rows(block), is_dense),
        )
        assert len(numbers) == BLOCK_WORDS
        return _words_of(numbers)

    def _kind(self, block: LoihiBlock) -> int:
        if isinstance(block, Port):
            return INPUT
        if isinstance(block, LoihiAttention):
            return ATTENTION
        if block is self.graph.readout:
            return READOUT
        assert isinstance(block, LoihiConv)
        arrives = self.inputs[self.sources[block.name][0]]
        return CONVOLUTION if 0 in arrives or not _is_pool(block, self.graph) else POOL  # counts are no bits

    def _place_in_memory(self) -> None:
        """Places in words: state that stays over steps, spikes that are needed until their last reader has run."""
        self.membranes, self.state, self.state_words = [0] * len(self.blocks), 0, 0
        for number, block in enumerate(self.blocks):
            if self._kind(block) in (CONVOLUTION, ATTENTION):
                self.membranes[number] = self.state_words
                self.state_words += block.neurons
        self.sums = self.state_words
        fixed = self.sums + self.graph.readout.neurons
        self.bias = fixed
        self.drive = self.bias + max(block.shape[0] * block.shape[2] for block in self.blocks[1:])
        first = self.drive + max(map(_drive_words, self.blocks))
        self.spikes, self.words = _fit(first, [*map(_spike_words, self.blocks[:-1]), 0], self._last_readers())

    def _last_readers(self) -> list[int]:
        """The number of the block that reads each block last; the input is written between all steps."""
        last = list(range(len(self.blocks)))
        for number, arrives in enumerate(self.inputs):
            for source in arrives:
                last[source] = max(last[source], number)
        last[0] = len(self.blocks)
        return last

    def _weights(self, block: LoihiBlock) -> bytes:
        """[inputs][kernel rows][kernel columns, backwards][outputs of a group]: a spike adds a run of them to a row."""
        if not isinstance(block, LoihiConv) or self._kind(block) == POOL:
            return b""
        outputs, inputs, rows, columns = block.weight.shape
        grouped = block.weight.reshape(block.groups, outputs // block.groups, inputs, rows, columns)
        ordered: NDArray[np.int8] = grouped.transpose(0, 2, 3, 4, 1)[:, :, :, ::-1].astype(np.int8)
        content = ordered.tobytes()
        return content + bytes(-len(content) % WORD_BYTES)

    def _biases(self, block: LoihiBlock) -> bytes:
        if not isinstance(block, LoihiConv) or block.bias is None or not block.bias.any():
            return b""
        return block.bias.astype("<i4").tobytes()

    def _in_words(self, number: int) -> str:
        """A block in a line, for people."""
        block = self.blocks[number]
        kind = ("input", "convolution", "pool", "attention", "readout")[self._kind(block)]
        kernel = f" {block.kernel[0]} x {block.kernel[1]}" if isinstance(block, LoihiConv) else ""
        shape = " x ".join(map(str, block.shape))
        arrives = " + ".join(self.blocks[source].name for source in self.inputs[number])
        return f"{kind}{kernel} to {shape}" + (f" from {arrives}" if arrives else "")


def _passes_on(block: LoihiBlock, graph: LoihiGraph) -> bool:
    """Whether a block sends just what arrives."""
    if isinstance(block, Relay):
        return True
    if block is graph.readout or not isinstance(block, LoihiConv) or not _is_pool(block, graph):
        return False
    plain = block.kernel == block.stride == (1, 1) and block.padding == (0, 0)
    return plain and graph.largest_input(block) == 1


def _is_pool(block: LoihiConv, graph: LoihiGraph) -> bool:
    """Whether its neurons fire on any spike: they never keep anything."""
    in_range = graph.largest_input(block) * _largest_sum(block) < LARGEST_DRIVE
    per_channel = block.groups == len(block.weight) and block.weight.shape[1] == 1
    unbiased = block.bias is None or not block.bias.any()
    return in_range and per_channel and unbiased and block.neuron.v_threshold == 0 and bool((block.weight > 0).all())


def _spike_words(block: LoihiBlock) -> int:
    channels, rows, columns = block.shape
    if isinstance(block, Port):
        return -(-channels * rows * columns // WORD_BYTES)  # a byte per count
    return rows * columns * -(-channels // WORD_BITS)


def _drive_words(block: LoihiBlock) -> int:
    channels, _, columns = block.shape
    if isinstance(block, LoihiAttention):
        return channels + channels * (channels // block.heads)
    return _open_rows(block) * columns * channels


def _open_rows(block: LoihiBlock) -> int:
    """Rows of a block that a row of its input reaches: they are summed up at the same time."""
    if not isinstance(block, LoihiConv):
        return 0
    reached = (block.kernel[0] - 1) * block.dilation[0] // block.stride[0] + 1
    return min(reached, block.shape[1])


def _fit(first: int, sizes: Sequence[int], last: Sequence[int]) -> tuple[list[int], int]:
    """Places from `first` on of arrays, written in turn and read `last` by others; and where all of them end."""
    places: list[int] = []
    for number, size in enumerate(sizes):
        taken = sorted((places[other], sizes[other]) for other in range(number) if last[other] >= number)
        place = first
        for begin, length in taken:
            if place + size <= begin:
                break
            place = max(place, begin + length)
        places.append(place)
    return places, max(place + size for place, size in zip(places, sizes, strict=True))


def _words_of(numbers: Iterable[int]) -> bytes:
    known = tuple(map(int, numbers))
    return struct.pack(f"<{len(known)}i", *known)
