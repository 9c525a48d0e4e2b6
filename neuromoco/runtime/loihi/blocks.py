"""The network as Loihi computes it: blocks of integer synapses and neurons, each of which takes one time step.

With a[t] the weighted sum of what arrives, u its current and v its membrane, both 0 at first, a neuron does

    u[t] = 64 a[t]
    v[t] = clip(trunc(v[t-1] (4096 - v_decay) / 4096) + u[t] + 64 bias, -(2^23 - 1), 2^23 - 1)
    s[t] = 1 if v[t] > 64 v_threshold else 0;  v[t] = 0 where s[t] = 1

which is Lava's fixed-point CUBA neuron with a current that decays at once (iDecay 4096). trunc rounds towards zero.
A block emits its spikes for step t of a recording at step t + depth. Shapes are (C, H, W); the spikes of several inputs
are added as they arrive.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuromoco.snn.loihi_ranges import LARGEST_BIAS, LARGEST_THRESHOLD, LARGEST_WEIGHT, UNIT
from neuromoco.unsupported import Unsupported

Dialect = Literal["stock", "extended"]
Shape = tuple[int, int, int]
Sizes = tuple[int, ...]
Pair = tuple[int, int]
Integers = NDArray[np.int32]

LARGEST_DRIVE = 1 << 17  # |a| is smaller, or 64 a would not fit into the 24 bits of a current
LARGEST_MEMBRANE = (1 << 23) - 1
LARGEST_MESSAGE = 255  # of a graded spike of 8 bits
FULL_DECAY = 4096
STOCK_SIZE = 127  # Lava keeps groups, and the geometry of kernels, in 8 bits


@dataclass(frozen=True)
class Neuron:
    """Constants of a block's neurons, see the module's equation."""

    v_threshold: int  # vThMant
    v_decay: int  # share of 4096 that a membrane loses in a step

    def exact_steps(self, unit: int = UNIT) -> int | None:
        """Number of time steps before trunc drops a bit of a membrane; None if it never does."""
        keep = FULL_DECAY - self.v_decay
        if keep in (0, FULL_DECAY):
            return None
        halvings = int(math.log2(FULL_DECAY // math.gcd(keep, FULL_DECAY)))
        return 1 + int(math.log2(unit)) // halvings


OR = Neuron(v_threshold=0, v_decay=0)  # fires on anything
READOUT = Neuron(v_threshold=LARGEST_THRESHOLD, v_decay=0)  # adds up and never fires


@dataclass(frozen=True, eq=False, kw_only=True)
class LoihiBlock:
    """Base of all blocks."""

    name: str  # unique; that of the layer of neurons, where there is one
    inputs: tuple[str, ...]  # names of the blocks whose spikes it receives
    shape: Shape  # (C, H, W) of its spikes
    depth: int  # steps from the input to this block
    largest: int = 1  # largest value of a spike; more than 1 for graded spikes

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    def refused(self, reason: str) -> Unsupported:
        """This block as one that cannot be expressed."""
        return Unsupported(self.name, type(self).__name__.removeprefix("Loihi"), reason)


@dataclass(frozen=True, eq=False, kw_only=True)
class Port(LoihiBlock):
    """The input: event counts, as graded spikes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LoihiConv(LoihiBlock):
    """Cross-correlation with integer weights, zeros outside, then neurons."""

    weight: Integers = field(repr=False)  # [O, I / groups, kh, kw], each within +-127
    bias: Integers | None = field(default=None, repr=False)  # [O], each within +-4095
    stride: Pair = (1, 1)  # along rows and columns, as are the next two
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1  # of channels that do not mix
    neuron: Neuron
    scale: float = 1.0  # ratio of an integer weight to its float weight
    clipped: int = 0  # number of weights and biases that were cut to the range

    @property
    def kernel(self) -> Pair:
        """Rows and columns of a kernel."""
        return self.weight.shape[2], self.weight.shape[3]


@dataclass(frozen=True, eq=False, kw_only=True)
class Relay(LoihiBlock):
    """Sends the sum of what arrives one step later, as a graded spike."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LoihiAttention(LoihiBlock):
    """Spiking self-attention, a = gain * v (k^T q) in every head, then neurons.

    Its one input has 3 C channels: queries, keys, values, each of `heads` consecutive groups of channels. Tokens are
    pixels.
    """

    heads: int
    gain: int
    neuron: Neuron


def exact_steps(block: LoihiBlock) -> int | None:
    """Number of time steps for which a block's neurons equal float neurons of the same weights; None for all."""
    if isinstance(block, LoihiAttention):
        return block.neuron.exact_steps(block.gain)  # its threshold is a whole number of products
    return block.neuron.exact_steps() if isinstance(block, LoihiConv) else None


def is_relay(block: LoihiBlock) -> bool:
    """Whether a block only passes on what arrives."""
    passing = isinstance(block, LoihiConv) and block.neuron == OR and block.kernel == (1, 1)
    return isinstance(block, Relay) or passing


@dataclass(frozen=True)
class LoihiGraph:
    """Blocks in the order of computing: the port first, the readout last.

    The readout's membranes after the last step, divided by 64 and by its scale, are the sum of the logits over time.
    """

    blocks: tuple[LoihiBlock, ...]

    def __getitem__(self, name: str) -> LoihiBlock:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, LoihiBlock]:
        return {block.name: block for block in self.blocks}

    @property
    def port(self) -> LoihiBlock:
        """The input."""
        return self.blocks[0]

    @property
    def readout(self) -> LoihiConv:
        """The block whose membranes are the logits."""
        last = self.blocks[-1]
        assert isinstance(last, LoihiConv)
        return last

    @property
    def latency(self) -> int:
        """Steps from an input to the readout."""
        return self.readout.depth

    def largest_input(self, block: LoihiBlock) -> int:
        """The largest value that can arrive at a block's synapse."""
        return sum(self[name].largest for name in block.inputs)

    def problems(self, dialect: Dialect) -> list[Unsupported]:
        """Lists what the hardware or the file format cannot hold, with substitutes."""
        problems = [block.refused(reason) for block in self.blocks[1:] for reason in self._problems_of(block) if reason]
        if dialect == "stock":
            problems += [
                block.refused(reason)
                for before, block in itertools.pairwise(self.blocks)
                if not is_relay(block)  # the layer that it leads to is listed
                and (reason := _beyond_stock(block, before))
            ]
        return problems

    def _problems_of(self, block: LoihiBlock) -> Iterator[str]:
        if isinstance(block, LoihiConv):
            if not block.weight.any():
                yield "all its weights are 0; omit the layer, or train it"
            yield _beyond("a weight", int(np.abs(block.weight).max()), LARGEST_WEIGHT)
            if block.bias is not None:
                yield _beyond("a bias", int(np.abs(block.bias).max()), LARGEST_BIAS)
        if isinstance(block, LoihiConv | LoihiAttention):
            yield _beyond("a threshold vThMant", block.neuron.v_threshold, LARGEST_THRESHOLD)
        if isinstance(block, Relay) and block.largest > LARGEST_MESSAGE:
            yield f"sums of up to {block.largest} in a spike of 8 bits; put fewer residual blocks in a row"
        if {self[name].depth for name in block.inputs} != {block.depth - 1}:
            yield "its inputs arrive at different steps; put relays between"


def _beyond(what: str, value: int, most: int) -> str:
    if 0 <= value <= most:
        return ""
    return f"{what} of {value}, and Loihi holds 0 to {most}; train with --quantize loihi, or raise the threshold"


def _beyond_stock(block: LoihiBlock, before: LoihiBlock) -> str:
    if isinstance(block, LoihiAttention):
        return "attention, which the stock dialect lacks; use --dialect extended, or the encoder chain_tiny"
    if block.inputs != (before.name,) or isinstance(block, Relay):
        return "a residual path, and the stock dialect is a chain; use --dialect extended, or the encoder chain_tiny"
    if isinstance(block, LoihiConv) and block.groups > STOCK_SIZE:
        return (
            f"{block.groups} groups, and stock Lava holds at most {STOCK_SIZE}; use a strided convolution instead of "
            "a max pool, fewer channels, or --dialect extended"
        )
    if isinstance(block, LoihiConv) and (size := max(*block.kernel, *block.stride, *block.padding)) > STOCK_SIZE:
        return (
            f"a kernel, stride or padding of {size}, and stock Lava holds at most {STOCK_SIZE}; use smaller frames, or "
            "--dialect extended"
        )
    return ""


def conv_shape(shape: Sizes, out: int, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:
    """Shape of a convolution's result: `out` channels, and sides rounded down."""
    sides = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    return (out, *((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in sides))
