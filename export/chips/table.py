"""Chips, energies and their sources, as published: data alone. `judge` compares a network with them.

To add a chip: a row in `CHIPS`, whose limits name quantities in `quantities.OF_LAYERS` or `OF_NETWORKS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

EXPORT = "neuromoco"
SOURCES = {
    "Davies 2018": "Davies et al. 2018, Loihi, IEEE Micro 38(1), https://doi.org/10.1109/MM.2018.112130359",
    "Intel 2021": "Intel 2021, technology brief: Taking neuromorphic computing to the next level with Loihi 2",
    EXPORT: "what `neuromoco export --target loihi` can write",
    "sinabs": "SynSense, documentation of sinabs, Speck: overview, https://sinabs.readthedocs.io",
    "Yao 2024": "Yao et al. 2024, Nature Communications 15:4464, https://doi.org/10.1038/s41467-024-47811-6",
    "Rockpool": "SynSense, documentation of Rockpool, https://rockpool.ai/devices/xylo-overview.html",
    "Bos 2024": "Bos and Muir 2024, Micro-power spoken keyword spotting on Xylo Audio 2, https://arxiv.org/abs/2406.15112",
    "SpiNNaker2 datasheet": "SpiNNaker2 datasheet 0.03, 2021, https://github.com/SpiNNakerManchester/SpiNNMachine",
    "py-spinnaker2": "the reader of NIR in py-spinnaker2, as in Pedersen et al. 2024, https://doi.org/10.1038/s41467-024-52259-9",
    "Horowitz 2014": "Horowitz 2014, Computing's energy problem, ISSCC, https://doi.org/10.1109/ISSCC.2014.6757323",
}


@dataclass(frozen=True)
class Core:
    """The cores of a chip, where layers are split over as many as they need.

    Attributes:
        count: cores of a chip.
        bits: memory of a core for synapses, and for `neuron_bits` of every neuron.
        shared: whether the weights of a convolution are stored once per core, instead of once per connection.
        neurons, axons: of a core; axons are neurons that it receives spikes from.
    """

    count: int
    bits: int
    source: str
    shared: bool
    neurons: int | None = None
    axons: int | None = None
    neuron_bits: int = 0

    def needed(self, neurons: int, axons: int, connections: int, weights: int) -> int:
        """The cores of a layer, with weights of 8 bits: as many as the scarcest resource requires."""
        synapses = 8 * (weights if self.shared else connections)
        return math.ceil(
            max(
                neurons / (self.neurons or math.inf),
                axons / (self.axons or math.inf),
                (synapses + neurons * self.neuron_bits) / self.bits,
            )
        )


@dataclass(frozen=True)
class Limit:
    """A number of each layer, or of the network, that a chip bounds.

    Attributes:
        quantity: its name in `quantities`.
        allowed: the largest value, or all that are allowed.
        shrink: what makes it smaller: "channels" of the layer, pixels of the "frames", or other words of advice.
    """

    quantity: str
    allowed: int | tuple[int, ...]
    source: str
    shrink: tuple[str, ...]

    def holds(self, value: int) -> bool:
        """Whether a value is allowed."""
        return value <= self.allowed if isinstance(self.allowed, int) else value in self.allowed


@dataclass(frozen=True)
class Chip:
    """A chip and what it holds.

    Attributes:
        limits: of layers and of networks.
        exported: whether `to_loihi` writes it, which says what it cannot, and counts what it adds.
        lacks: what it does not compute, by the name of a trait in `quantities.TRAITS`: a substitute, and the source.
        core: its cores, if a layer may be split over several.
        memories: if each layer has a core to itself: (kernel words, neuron words) of each core, and their source.
        notes: what else to know.
    """

    name: str
    limits: tuple[Limit, ...] = ()
    exported: bool = False
    lacks: dict[str, tuple[str, str]] = field(default_factory=dict)
    core: Core | None = None
    memories: tuple[tuple[int, int], ...] = ()
    memory_source: str = ""
    notes: tuple[str, ...] = ()


KI = 1024
ON_GRID = ("channels", "frames")
SEW_ADD = "use SEW-ResNet's connect=ADD, or a network of convolutions and linear layers"
LOIHI1_CORE = Core(count=128, bits=1_048_576, source="Davies 2018", shared=False, neurons=1024, axons=4096)
LOIHI2_CORE = Core(count=120, bits=1_048_576, source="Intel 2021", shared=True, neurons=8192)
LOIHI1 = Chip(
    name="Loihi 1",
    core=LOIHI1_CORE,
    exported=True,
    limits=(Limit("neurons that one receives from", 4096, "Davies 2018", ("inputs",)),),
    lacks={
        "attention": (
            "use SEW-ResNet or chain_tiny; a product of spikes needs the microcode of Loihi 2",
            "Davies 2018",
        ),
    },
    notes=("its spikes have no value: counts above 1 need more time steps, or are sent as 1",),
)
LOIHI2 = Chip(
    name="Loihi 2",
    core=LOIHI2_CORE,
    exported=True,
    notes=("120 cores are counted, publications name 120 to 128; attention needs microcode of its own",),
)
SPECK = Chip(
    name="Speck 2",
    limits=(
        Limit("rows or columns of an input", 128, "sinabs", ("frames",)),
        Limit("rows or columns of a layer", 64, "sinabs", ("frames",)),
        Limit("channels", 1024, "sinabs", ("channels",)),
        Limit("side of a kernel", 16, "sinabs", ("a smaller kernel, or another layer before it",)),
        Limit("stride", (1, 2, 4, 8), "sinabs", ("a stride of 1, 2, 4 or 8",)),
        Limit("padding", tuple(range(8)), "sinabs", ("a padding of up to 7",)),
        Limit("side of an average pool", (1, 2, 4), "sinabs", ("pools of 1, 2 or 4",)),
        Limit("layers that one sends spikes to", 2, "sinabs", ("fewer branches",)),
        Limit("layers", 9, "sinabs", ("fewer layers",)),
    ),
    memories=(
        *[(16 * KI, 64 * KI)] * 3,
        *[(32 * KI, 32 * KI)] * 2,
        *[(64 * KI, 16 * KI)] * 2,
        *[(16 * KI, 16 * KI)] * 2,
    ),
    memory_source="sinabs",
    lacks={
        "leak": ("train with IF neurons; the chip's leak takes off the same from all membranes", "sinabs"),
        "max pool": ("use average pools, which it computes as sums of spikes", "sinabs"),
        "product of spikes": (SEW_ADD, "sinabs"),
        "attention": ("use chain_tiny", "sinabs"),
        "synaptic current": ("use neurons without one", "sinabs"),
        "dilation": ("use dilation 1", "sinabs"),
        "sum of several convolutions": ("put neurons behind each, or put the sum before one convolution", "sinabs"),
        "overlapping average pool": ("use windows that tile the map", "sinabs"),
    },
    notes=(
        "weights of 8 bits, membranes of 16; it takes events one by one",
        "it gives spikes: the host adds up what the last layer's weights make of them, or neurons are put behind it",
    ),
)
XYLO = Chip(
    name="Xylo Audio 3",
    limits=(
        Limit("inputs", 16, "Rockpool", ("frames",)),
        Limit("hidden neurons", 992, "Rockpool", ON_GRID),
        Limit("outputs", 32, "Rockpool", ("fewer classes",)),
        Limit("neurons that one sends spikes to", 1024, "Rockpool", ON_GRID),
        Limit("neurons that the input reaches", 128, "Rockpool", ON_GRID),
        Limit("neurons that reach the output", 128, "Rockpool", ON_GRID),
        Limit("synapses between hidden neurons", 64 * 992, "Rockpool", ON_GRID),
    ),
    lacks={
        "hard reset": ("train with soft reset, which is all that it has", "Rockpool"),
        "leak that is no power of two": (
            "use a leak of 1/2, 1/4, 1/8, ..., such as tau=2.0",
            "Rockpool",
        ),
        "product of spikes": (SEW_ADD, "Rockpool"),
        "attention": ("use linear layers", "Rockpool"),
        "max pool": ("use linear layers", "Rockpool"),
    },
    notes=("made for audio and motion: 16 inputs of up to 15 spikes a step; 64 synapses a neuron on average",),
)
SPINNAKER2 = Chip(
    name="SpiNNaker2",
    core=Core(count=152, bits=128 * KI * 8, source="SpiNNaker2 datasheet", shared=True, neuron_bits=64),
    lacks={
        "max pool": ("use average pools, or a program of your own for its Arm cores", "py-spinnaker2"),
        "product of spikes": ("use another network, or a program of your own for its Arm cores", "py-spinnaker2"),
        "attention": ("use another network, or a program of your own for its Arm cores", "py-spinnaker2"),
    },
    notes=("cores: at least so many, by 128 KiB for weights of 8 bits and two words a neuron; programs need more",),
)
CHIPS = (LOIHI1, LOIHI2, SPECK, XYLO, SPINNAKER2)


@dataclass(frozen=True)
class Energy:
    """Energy of operations, in pJ.

    Attributes:
        add: of a synaptic operation of a spike: a weight is added.
        multiply_add: of a weight times a value, and the sum; None where nothing was published.
        firing, silent: of a neuron's step with and without a spike; by default each is a multiplication and a sum.
    """

    name: str
    add: float
    multiply_add: float | None
    source: str
    firing: float | None = None
    silent: float | None = None

    def spent_nj(self, adds: float, multiply_adds: float, neurons: int, spikes: float, steps: int) -> float:
        """Nanojoules of so many operations of spikes and of values, and of neurons that emit so many spikes."""
        product = self.add if self.multiply_add is None else self.multiply_add
        firing = product if self.firing is None else self.firing
        silent = product if self.silent is None else self.silent
        updates = spikes * firing + (neurons * steps - spikes) * silent
        return (adds * self.add + multiply_adds * product + updates) / 1e3


FLOAT_45NM = Energy("float32 arithmetic in 45 nm", add=0.9, multiply_add=4.6, source="Horowitz 2014")
INT8_45NM = Energy("8-bit weights, 32-bit sums in 45 nm", add=0.1, multiply_add=0.3, source="Horowitz 2014")
LOIHI1_ENERGY = Energy("Loihi 1", add=23.6, multiply_add=None, source="Davies 2018", firing=81.0, silent=52.0)
ENERGIES = (FLOAT_45NM, INT8_45NM, LOIHI1_ENERGY)
