"""The C kernels in `kernels.c` and `spike_conv.c`, compiled at first use and kept in the cache folder.

Compiling needs a C compiler with OpenMP, such as gcc. Without one, `library` returns None, and callers use torch
operations that give the same results more slowly.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import multiprocessing
import os
import platform
import shlex
import subprocess
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from neuromoco.support.console import is_first_here, say_once
from neuromoco.support.files import cache_folder, locked, writing

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
def library() -> ctypes.CDLL | None:
    """The compiled kernels. None where they cannot be compiled: this is then reported on the console, once."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    content = b"".join(map(Path.read_bytes, SOURCES)) + repr((compiler, FLAGS, _processor())).encode()
    try:
        path = cache_folder() / "kernels" / f"{hashlib.sha256(content).hexdigest()[:32]}.so"
        with locked(path.with_name(".lock")):
            if not path.is_file():
                _compile(compiler, path)
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # damaged, or of another machine
                _compile(compiler, path)
                return ctypes.CDLL(str(path))
    except (OSError, ImportError, RuntimeError, subprocess.SubprocessError):
        if is_first_here() and multiprocessing.parent_process() is None:  # workers keep silent
            compiler_name = " ".join(compiler)
            say_once(
                f"The C compiler {compiler_name!r} is missing or fails, so training on a CPU will be slower: "
                "install gcc (on Debian and Ubuntu: apt install gcc), or set CC to a C compiler with OpenMP"
            )
        return None


def _compile(compiler: list[str], path: Path) -> None:
    with writing(path) as part:
        command = [*compiler, *FLAGS, "-o", str(part), *map(str, SOURCES), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


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


def _processor() -> str:
    """What -march=native depends on: machines with different processors may share a cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
