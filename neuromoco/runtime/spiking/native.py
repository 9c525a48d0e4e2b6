"""`spiking.c` compiled for this machine: the integer twin, many times as fast as in numpy.

Compiling needs a C compiler. Without one, or where it fails, callers use the twin in numpy, whose results are the same.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.runtime.loihi.blocks import LARGEST_MESSAGE, Integers
from neuromoco.runtime.spiking import SOURCES
from neuromoco.runtime.spiking.network import PackedNetwork
from neuromoco.support.compiled import Compiled, CompilerError, compiled_library

# Of sums of bytes in 512 bits, gcc makes more instructions than in 256.
NARROW = ("-mprefer-vector-width=256",) if platform.machine() == "x86_64" else ()
FLAGS = ("-std=c99", "-O3", "-march=native", *NARROW, "-fPIC", "-shared")
OK = 0


@functools.cache
def library() -> Compiled | None:
    """The compiled runtime; None where it cannot be compiled."""
    try:
        return compiled_library("spiking", SOURCES, FLAGS, lambda _: None)  # a cache that fails costs a second
    except (OSError, CompilerError):
        return None


class CompiledNetwork:
    """A network in the compiled runtime. Threads may share it: each call has memory for itself."""

    def __init__(self, packed: PackedNetwork, runtime: Compiled) -> None:
        self.packed, self._runtime = packed, runtime
        self._content = np.frombuffer(packed.content, np.uint8)
        self._idle: list[OpenNetwork] = []  # those of earlier calls

    @contextmanager
    def _opened(self) -> Iterator[OpenNetwork]:
        try:
            opened = self._idle.pop()
        except IndexError:
            opened = OpenNetwork(self._content, self.packed.memory, self._runtime)
        yield opened
        self._idle.append(opened)

    def logits(self, frames: NDArray[Any]) -> Integers | None:
        """What each step adds to the readout [T, N, classes], of frames [T, N, P, H, W].

        None if something is out of range, or T is another one than the network's.
        """
        steps, batch = frames.shape[:2]
        if steps != self.packed.steps:
            return None
        counts = np.ascontiguousarray(np.minimum(frames, LARGEST_MESSAGE).swapaxes(0, 1), np.uint8)
        with self._opened() as opened:
            sums = np.zeros((batch, steps, opened.classes), np.int32)
            if any(opened.recording(counts[n], sums[n]) != OK for n in range(batch)):
                return None
        return np.diff(sums, axis=1, prepend=0).swapaxes(0, 1)


class OpenNetwork:
    """A network with its state."""

    def __init__(self, content: NDArray[np.uint8], memory: int, runtime: Compiled) -> None:
        self._runtime, self._content = runtime, content
        self._memory = np.zeros(memory // 4, np.int32)
        self._state = ctypes.create_string_buffer(runtime.spiking_size())
        opened = runtime.spiking_open(
            self._state, _place(content), ctypes.c_size_t(content.size), _place(self._memory), ctypes.c_size_t(memory)
        )
        assert opened == OK, f"spiking_open returned {opened}"
        self.classes: int = runtime.spiking_classes(self._state)

    def recording(self, counts: NDArray[np.uint8], sums: NDArray[np.int32]) -> int:
        """Computes a recording of counts [T, P, H, W]: its logits up to each step [T, classes]; returns its status."""
        status: int = self._runtime.spiking_recording(self._state, _place(counts), _place(sums))
        return status


def _place(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
