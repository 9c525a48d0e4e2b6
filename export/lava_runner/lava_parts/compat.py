"""Makes lava-nc 0.10.0 and lava-dl 0.6.0, the last there will be, run with today's Python and numpy.

Nothing here changes a result. `install` must come before any other import of Lava.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lava_parts import ending

Pair = tuple[int, int]


def install(*, plain_convolution: bool) -> None:
    """Imports Lava and mends it.

    Args:
        plain_convolution: leave Lava its own convolution, by scipy, which takes seconds where BLAS takes milliseconds.

    Raises:
        ModuleNotFoundError: Lava or something that it needs is not installed.
    """
    import lava.lib.dl
    import lava.magma  # noqa: F401 - lava-dl alone does not bring it

    _hashable_defaults()
    _no_slayer()
    _reshape_by_position()
    _wide_convolutions()
    _quick_discovery()
    if not plain_convolution:
        from lava.proc.conv import utils

        utils.conv = convolve
    from lava.magma.runtime.message_infrastructure import multiprocessing

    multiprocessing.SystemProcess = loud_process(multiprocessing.SystemProcess)
    multiprocessing.SharedMemoryManager = tidy_memory(multiprocessing.SharedMemoryManager)


def _hashable_defaults() -> None:
    """Python >= 3.11 refuses the unhashable dataclass defaults of one module: makes its classes hashable."""
    name, original = "lava.magma.compiler.var_model", dataclasses.dataclass

    def lenient(cls: type | None = None, /, **options: Any) -> Any:
        def decorate(cls: type) -> type:
            if cls.__module__ == name:
                options.setdefault("unsafe_hash", True)
            return original(**options)(cls)

        return decorate if cls is None else decorate(cls)

    dataclasses.dataclass = lenient
    try:
        importlib.import_module(name)
    finally:
        dataclasses.dataclass = original


def _no_slayer() -> None:
    """netx imports its training library, and torch, for things that these networks do not use: stands in for both."""
    import lava.lib.dl

    netx = Path(next(iter(lava.lib.dl.__path__))) / "netx"
    # A function of resonate-and-fire neurons, and modules that run outside of a network.
    for name in ("slayer", "slayer.neuron", "slayer.neuron.rf", "netx.sequential_modules"):
        module = types.ModuleType(f"lava.lib.dl.{name}")
        module.__path__ = []
        module.__file__ = str(netx / "sequential_modules.py")  # Lava looks for models beside every module
        module.neuron_params = None
        sys.modules[module.__name__] = module


def _reshape_by_position() -> None:
    """numpy >= 2.4 has no `newshape` any more."""
    from lava.magma.core.process.ports.ports import ReshapePort

    def to(side: str) -> Callable[[Any], Any]:
        return lambda port: functools.partial(_reshape, getattr(port, side))

    ReshapePort.get_transform_func_fwd = to("shape")
    ReshapePort.get_transform_func_bwd = to("old_shape")


def _reshape(shape: tuple[int, ...], array: NDArray[Any]) -> NDArray[Any]:
    return np.reshape(array, shape)


def _wide_convolutions() -> None:
    """Convolutions keep their sizes in int8, where 128 groups or pixels overflow: gives them int32."""
    from lava.magma.core.model.py.type import LavaPyType
    from lava.proc.conv import models

    for name in ("kernel_size", "stride", "padding", "dilation", "groups"):
        for model in (models.AbstractPyConvModel, models.PyConvModelFixed, models.PyConvModelFloat):
            setattr(model, name, LavaPyType(np.ndarray, np.int32, precision=8))


def _quick_discovery() -> None:
    """Lava executes all files beside a Process to find its models, for each Process anew: once a class is enough."""
    from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs

    original, found = ProcGroupDiGraphs._find_proc_models, {}

    def find(proc: Any) -> Any:
        if type(proc) not in found:
            with warnings.catch_warnings():
                # Of files that need torch and other things, none of them needed here.
                warnings.filterwarnings("ignore", message="Cannot import module")
                found[type(proc)] = original(proc)
        return found[type(proc)]

    ProcGroupDiGraphs._find_proc_models = staticmethod(find)


_kernels: dict[int, tuple[NDArray[Any], NDArray[np.float64]]] = {}


def convolve(
    values: NDArray[Any], weight: NDArray[Any], size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> NDArray[Any]:
    """Takes the place of `lava.proc.conv.utils.conv`: one matrix product of float64, which holds such sums exactly.

    Args:
        values: input.  # [W, H, I]
        weight: Lava's kernels, which lie turned by 180 degrees.  # [O, kw, kh, I / groups]
        size, stride, padding, dilation: along width and height.
        groups: channels fall into so many groups that do not mix.

    Returns:
        The sums, in the type of the weights.  # [w, h, O]
    """
    (sx, sy), (px, py), (dx, dy), (kx, ky) = ([int(n) for n in pair] for pair in (stride, padding, dilation, size))
    padded = np.pad(values, ((px, px), (py, py), (0, 0))).astype(np.float64)
    window = (dx * (kx - 1) + 1, dy * (ky - 1) + 1)
    windows = sliding_window_view(padded, window, axis=(0, 1))[::sx, ::sy, :, ::dx, ::dy]  # [w, h, I, kw, kh]
    w, h = windows.shape[:2]
    patches = windows.reshape(w * h, int(groups), -1).transpose(1, 0, 2)  # [G, w * h, I / G * kw * kh]
    sums = patches @ _matrix(weight, int(groups))  # [G, w * h, O / G]
    return sums.transpose(1, 0, 2).reshape(w, h, -1).astype(weight.dtype)


def _matrix(weight: NDArray[Any], groups: int) -> NDArray[np.float64]:
    """The kernels as a matrix a group, made once: a layer's weights stay the same array."""
    # The weights are kept beside, so that no other array comes to their address.
    if id(weight) not in _kernels:
        upright = weight[:, ::-1, ::-1].transpose(3, 1, 2, 0).astype(np.float64)  # [I / G, kw, kh, O]
        matrix = (
            upright.reshape(-1, groups, len(weight) // groups).transpose(1, 0, 2).copy()
        )  # [G, I / G * kw * kh, O / G]
        _kernels[id(weight)] = weight, matrix
    return _kernels[id(weight)][1]


def loud_process(base: type) -> type:
    """A kind of Lava's operating-system process that does not fail silently.

    Lava logs a traceback below the level that is shown and then waits for the other parts, for ever. Here a failing
    part prints its traceback and ends at once, which guard.py notices in the parent, and no part outlives its parent.
    """

    class LoudProcess(base):
        parts: list[Any] = []

        def start(self) -> None:
            self.parts.append(self)
            with ending.held():
                super().start()

        def run(self) -> None:
            for number in (signal.SIGALRM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            ending.as_child(self._parent_pid)
            try:
                # Past Lava's class, which would catch the exception.
                super(base, self).run()
                self._cconn.send(None)
            except Exception:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)

    return LoudProcess


def tidy_memory(base: type) -> type:
    """A kind of Lava's shared memory whose manager, a process of its own, does not outlive the script."""

    class TidyMemory(base):
        def __init__(self) -> None:
            ending.start_tracker()
            super().__init__()

        def start(self) -> None:
            with ending.held():
                if sys.platform == "linux":
                    # A socket without a file, which nobody need remove, and whose path is never too long.
                    self._manager._address = f"\0run_lava-{os.getpid()}-{id(self)}"
                else:
                    # Here, not in the manager: so the folder of its socket is known if it is killed.
                    get_temp_dir()
                self._manager.start(ending.as_child, (os.getpid(),))

        def create_shared_memory(self, size: int) -> Any:
            with ending.held():
                return super().create_shared_memory(size)

    return TidyMemory
