"""The C kernels in `kernels.c` and `spike_conv.c`, compiled at first use and kept in the cache folder.

Compiling needs a C compiler with OpenMP, such as gcc. Without one, `library` returns None, and callers use torch
operations that give the same results, up to rounding, more slowly. Where the cache folder cannot be used, each process
compiles its own.
"""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import platform
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from neuromoco.support import compiled
from neuromoco.support.console import is_first_here, say_once

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.c", "spike_conv.c"))
# No contraction: the neuron's equation rounds as torch does. The norm calls its fused multiply-add explicitly.
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")


class Shape(ctypes.Structure):
    """Memory layout of an array, [steps, outer, channels, inner], and the neuron's constants; as in `kernels.c`."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("steps", "outer", "channels", "inner")),
        *((name, ctypes.c_float) for name in ("tau", "threshold", "alpha")),
        *((name, ctypes.c_int) for name in ("atan", "threads")),
    )


@functools.cache
def library() -> compiled.Compiled | None:
    """The compiled kernels. None where they cannot be compiled: this is then reported on the console, once."""
    try:
        return compiled.compiled_library("kernels", SOURCES, FLAGS, _report)
    except (OSError, compiled.CompilerError):
        name = " ".join(compiled.compiler_words())
        _report(
            f"The C compiler {name!r} is missing or fails, so training on a CPU will be slower and its numbers rounded "
            "otherwise: install gcc (on Debian and Ubuntu: apt install gcc), or set CC to a C compiler with OpenMP"
        )
        return None


def _report(message: str) -> None:
    if is_first_here() and multiprocessing.parent_process() is None:  # workers keep silent
        say_once(message)


def call(name: str, shape: ctypes.Structure, *arrays: Tensor | None) -> None:
    """Calls a kernel by name with arrays laid out as `shape` says."""
    function = getattr(library(), name)
    function(*(ctypes.c_void_p(None if a is None else a.data_ptr()) for a in arrays), ctypes.byref(shape))


def is_supported(x: Tensor) -> bool:
    """Whether the kernels can take a tensor: float32, in CPU memory (`--dry-run` uses fake tensors), and compiled."""
    in_memory = x.device.type == "cpu" and not isinstance(x, FakeTensor)
    return in_memory and x.dtype == torch.float32 and library() is not None


def is_channels_last(x: Tensor) -> bool:
    """Whether [T, N, C, H, W] is laid out in memory as [T, N, H, W, C]."""
    return x.ndim == 5 and x.permute(0, 1, 3, 4, 2).is_contiguous()


def has_hooks(module: nn.Module) -> bool:
    """Whether forward or backward hooks need the module's own input or output."""
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


def match_layout(x: Tensor, like: Tensor) -> Tensor:
    """`x` with the memory layout of `like`, copied only if it differs."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def identity() -> str | None:
    """What identifies the compiled kernels, by which results are rounded; None where torch does their work."""
    kernels = library()
    return None if kernels is None else kernels.sha256[:16]


def processor_name() -> str:
    """The processor's name, such as "Intel(R) Xeon(R) Processor"."""
    names = [
        line.partition(":")[2].strip() for line in compiled.processor().splitlines() if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()
