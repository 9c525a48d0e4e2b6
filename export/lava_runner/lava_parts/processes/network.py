"""Reads network files whose layers form a graph, with sums of spikes and attention, into a netx network.

Apart from this folder's Processes nothing may lie here: Lava executes all files beside a Process when it compiles.
"""

from __future__ import annotations

from typing import Any

from lava.lib.dl.netx.blocks.models import AbstractPyBlockModel
from lava.lib.dl.netx.blocks.process import Conv
from lava.lib.dl.netx.hdf5 import Network
from lava.magma.core.decorator import implements
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.graded.process import GradedVec

from lava_parts.processes.attention import Attention

DIALECT = "neuromoco-extended-1"
INPUT = 0
# Sums of spikes are no longer 0 or 1: with fewer message bits Lava would take them as true or false.
GRADED_BITS = 8


class ExtendedNetwork(Network):
    """A netx network whose layers name their inputs; several inputs are summed where they arrive.

    Attributes:
        blocks: by layer number.
        depths: by layer number, blocks from the input on.
    """

    def __init__(self, net_config: str, **options: Any) -> None:
        """Takes what `Network` takes."""
        super().__init__(net_config, **options)
        # The base class has connected the first block.
        for block in self._at_input[1:]:
            self.inp.connect(block.inp)

    def _create(self) -> list[Any]:
        """Makes and connects the blocks; the base class calls it."""
        config = self.net_config["layer"]
        self._refuse_other_dialects(config)
        self.blocks, self.depths, self._at_input = {}, {}, []
        self.input_shape = tuple(int(side) for side in config[INPUT]["shape"][::-1])  # (W, H, P)
        self.net_str = self._table_str(header=True)
        before = INPUT
        for number in range(1, len(config)):
            layer = config[number]
            if layer["type"] == "unpool":  # carries the dialect's name
                continue
            sources = [int(n) for n in layer.f["inputs"][()]] if "inputs" in layer.f else [before]
            self.depths[number] = self._depth(number, sources)
            self.blocks[number] = self._block(number, layer, sources)
            self._connect(sources, self.blocks[number])
            before = number
        if not self._at_input or self._at_input[0] is not next(iter(self.blocks.values())):
            raise ValueError("the first layer does not take the input")
        return list(self.blocks.values())

    @staticmethod
    def _refuse_other_dialects(config: Any) -> None:
        name = b"none"
        if len(config) > 1 and "dialect" in config[1].f:
            name = bytes(config[1].f["dialect"][0])
        if name.decode("ascii", "replace") != DIALECT:
            raise ValueError(f"dialect {name.decode('ascii', 'replace')}; this program reads {DIALECT}")

    def _depth(self, number: int, sources: list[int]) -> int:
        unknown = [n for n in sources if n != INPUT and n not in self.blocks]
        if unknown or not sources:
            raise ValueError(f"layer {number} takes layers {sources}, which are not all before it")
        arrivals = {self.depths.get(n, 0) for n in sources}
        if len(arrivals) > 1:
            raise ValueError(f"layer {number}: its inputs {sources} come at different steps; relays are missing")
        return arrivals.pop() + 1

    def _block(self, number: int, layer: Any, sources: list[int]) -> Any:
        """The block of one layer."""
        shapes = {self.input_shape if n == INPUT else tuple(self.blocks[n].shape) for n in sources}
        if len(shapes) > 1:
            raise ValueError(f"layer {number}: its inputs {sources} differ in shape")
        shape = shapes.pop()  # (W, H, C)
        bits = self._message_bits(sources)
        # Steps count from 1, and a block's first spikes of a recording come as many steps late as it is deep.
        reset = {"reset_interval": self.reset_interval, "reset_offset": self.reset_offset + self.depths[number]}
        if layer["type"] == "conv" and layer["neuron"]["type"] == "GRADED":
            return self._relay(layer, shape)
        if layer["type"] == "conv":
            block, row = self.create_conv(layer, shape, bits, **reset)
            self.net_str += "\n" + row
            return block
        if layer["type"] == "ssa":
            heads, gain = (int(layer.f[name][()]) for name in ("heads", "gain"))
            if shape[2] % (3 * heads) or len(sources) > 1:
                raise ValueError(
                    f"layer {number}: attention of {heads} heads takes one layer of 3 x heads x n channels"
                )
            neurons = self.get_neuron_params(layer["neuron"], **reset)
            return Attention(shape=(*shape[:2], shape[2] // 3), heads=heads, gain=gain, neuron_params=neurons)
        raise ValueError(f"layer {number} is of type {layer['type']}; this program reads conv and ssa")

    def _message_bits(self, sources: list[int]) -> int:
        if INPUT in sources:
            return self.input_message_bits
        graded = len(sources) > 1 or any(self.blocks[n].output_message_bits for n in sources)
        return GRADED_BITS if graded else 0

    @staticmethod
    def _relay(layer: Any, shape: tuple[int, int, int]) -> Any:
        """A block that sends the sum of its inputs one step later; netx knows no such neuron."""
        weight = layer["weight"]  # [C, 1, 1, 1]
        if weight.shape != (shape[2], 1, 1, 1) or (weight != 1).any():
            raise ValueError("a relay of sums with other weights than one 1 a channel")
        neurons = {"neuron_proc": GradedVec, "vth": 0, "exp": 0, "num_message_bits": GRADED_BITS}
        return Conv(
            shape=shape,
            input_shape=shape,
            neuron_params=neurons,
            weight=weight,
            groups=shape[2],
            input_message_bits=GRADED_BITS,
        )

    def _connect(self, sources: list[int], block: Any) -> None:
        for number in sources:
            if number == INPUT:
                self._at_input.append(block)
            else:
                self.blocks[number].out.connect(block.inp)


@implements(proc=ExtendedNetwork, protocol=LoihiProtocol)
class PyExtendedNetworkModel(AbstractPyBlockModel):
    """How Lava takes the network apart."""
