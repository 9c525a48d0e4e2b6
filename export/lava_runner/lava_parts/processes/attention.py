"""Spiking self-attention as a block of netx. Loihi has no such part: it exists in simulation only."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.lib.dl.netx.blocks.models import AbstractPyBlockModel
from lava.lib.dl.netx.blocks.process import AbstractBlock
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class AttentionSynapse(AbstractProcess):
    """Sends gain * sum_j (q_i . k_j) v_j for every token i and head, one step after its spikes came.

    The spikes are queries, keys and values, C channels each; tokens are the pixels.
    """

    def __init__(self, *, shape: tuple[int, int, int], heads: int, gain: int) -> None:
        """
        Args:
            shape: of what it sends, (W, H, C).
            heads: groups of channels in a row that attend on their own.
            gain: factor of the sum.
        """
        super().__init__(shape=shape, heads=heads, gain=gain)
        self.s_in = InPort(shape=(*shape[:2], 3 * shape[2]))
        self.a_out = OutPort(shape=shape)
        self.a_buf = Var(shape=shape, init=0)
        self.heads = Var(shape=(1,), init=heads)
        self.gain = Var(shape=(1,), init=gain)


@implements(proc=AttentionSynapse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyAttentionSynapseModel(PyLoihiProcessModel):
    """How a CPU simulates it."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    a_buf: np.ndarray = LavaPyType(np.ndarray, np.int32)
    heads: np.ndarray = LavaPyType(np.ndarray, np.int32)
    gain: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def run_spk(self) -> None:
        """One time step."""
        # First what came a step ago, as all of Lava's synapses do: a loop of parts would wait for itself otherwise.
        self.a_out.send(self.a_buf)
        spikes = self.s_in.recv()  # [W, H, 3 C]
        tokens = spikes.reshape(-1, 3, int(self.heads[0]), self.a_buf.shape[2] // int(self.heads[0]))
        q, k, v = tokens.transpose(1, 2, 0, 3).astype(np.float64)  # [heads, tokens, C / heads], exact and by BLAS
        drive = q @ (k.swapaxes(1, 2) @ v) * int(self.gain[0])
        self.a_buf = drive.swapaxes(0, 1).reshape(self.a_buf.shape).astype(np.int32)


class Attention(AbstractBlock):
    """The synapse and neurons that take what it sends."""

    def __init__(self, *, shape: tuple[int, int, int], heads: int, gain: int, neuron_params: dict[str, Any]) -> None:
        """
        Args:
            shape: of the neurons, (W, H, C).
            heads, gain: of the synapse.
            neuron_params: as netx makes them from a file.
        """
        super().__init__(shape=shape, neuron_params=neuron_params, input_message_bits=0)
        self.synapse = AttentionSynapse(shape=shape, heads=heads, gain=gain)
        self.neuron = self._neuron(None)
        self.inp = InPort(shape=self.synapse.s_in.shape)
        self.out = OutPort(shape=shape)
        self.inp.connect(self.synapse.s_in)
        self.synapse.a_out.connect(self.neuron.a_in)
        self.neuron.s_out.connect(self.out)
        self._clean()


@implements(proc=Attention, protocol=LoihiProtocol)
class PyAttentionModel(AbstractPyBlockModel):
    """How Lava takes the block apart."""
