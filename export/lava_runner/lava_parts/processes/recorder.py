"""A Process that keeps all that it receives.

Lava's own sink hands its data back number by number; this one writes into a file that the parent maps as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Recorder(AbstractProcess):
    """Writes what it receives at time step t into row t - 1 of a file."""

    def __init__(self, *, shape: tuple[int, ...], path: str) -> None:
        """
        Args:
            shape: of what it receives.
            path: a .npy file, uint8, that is there already.  # [time, *shape]
        """
        super().__init__(shape=shape, path=path)
        self.a_in = InPort(shape=shape)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorderModel(PyLoihiProcessModel):
    """How a CPU simulates it."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.rows = np.load(proc_params["path"], mmap_mode="r+")

    def run_spk(self) -> None:
        """One time step."""
        self.rows[self.time_step - 1] = self.a_in.recv()
